import itertools
import random
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from autoprune.devices import Arrays, Device, _probes, open_device
from autoprune.devices.staircase import KERNELS, WIDTHS, Staircase, find_multiple, probe, staircase
from autoprune.hardware import HardwareProfile
from autoprune.records import Artifact
from autoprune.testing import FakeDevice, steady


def stairs(
    multiple: int, *, power: float, noise: float, seed: int, odd_cost: float = 1.0
) -> dict[str, dict[int, float]]:
    """Latencies that step at ``multiple``; widths between cost ``odd_cost`` times the next step."""
    generator = random.Random(seed)
    return {
        f"{kernel}x{kernel}": {
            width: (-(-width // multiple) * multiple) ** power
            * (odd_cost if width % multiple else 1.0)
            * (1 + generator.uniform(-noise, noise))
            for width in WIDTHS
        }
        for kernel in KERNELS
    }


@settings(max_examples=100, deadline=None)
@given(multiple=st.sampled_from([1, 2, 4, 8, 16, 32]), power=st.floats(0.8, 2.0), seed=st.integers(0, 10**6))
def test_step_is_found_through_noise(multiple: int, power: float, seed: int) -> None:
    assert find_multiple(stairs(multiple, power=power, noise=0.005, seed=seed)) == multiple


@pytest.mark.parametrize("multiple", [4, 8, 16, 32])
def test_widths_between_may_cost_more_than_the_next_step(multiple: int) -> None:
    assert find_multiple(stairs(multiple, power=1.8, noise=0.01, seed=0, odd_cost=1.2)) == multiple


def test_flat_latency_tells_nothing() -> None:
    assert find_multiple(stairs(16, power=0.1, noise=0.01, seed=0)) == 1


def test_one_outlier_does_not_hide_the_step() -> None:
    latency_ms = stairs(16, power=1.8, noise=0.005, seed=0)
    latency_ms["3x3"][52] *= 0.8
    assert find_multiple(latency_ms) == 16


class Stepping(FakeDevice):
    """A fake whose latency steps with the width, which it reads from the name of the artifact."""

    channel_multiple = Device.channel_multiple
    probes = 0

    def __init__(self, profile: HardwareProfile) -> None:
        super().__init__(profile, script=self._steps)

    def _steps(self, artifact: Artifact) -> itertools.chain[float]:
        Stepping.probes += 1
        width = int(artifact.path.stem.split("-")[1])
        return itertools.chain(steady((-(-width // 8) * 8) / 500))


@pytest.fixture
def device(profile: HardwareProfile, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Stepping:
    monkeypatch.setattr(_probes.platformdirs, "user_cache_path", lambda name: tmp_path / name)
    Stepping.probes = 0
    return Stepping(profile)


def test_probe_is_made_once_and_kept(device: Stepping, tmp_path: Path) -> None:
    assert device.channel_multiple() == 8
    probes = Stepping.probes
    assert probes == len(WIDTHS) * len(KERNELS)
    assert device.channel_multiple() == 8
    assert Stepping.probes == probes
    [kept] = (tmp_path / "autoprune" / "staircases").iterdir()
    assert kept.name.startswith(f"{device.fingerprint}-")
    assert Staircase.model_validate_json(kept.read_text()) == staircase(device)


@pytest.mark.parametrize(
    "content", [b"", b"{", b'{"multiple": 0, "latency_ms": {}}', b'{"multiple": 4}', b"\xff\xfe", b'{"surprise": 1}']
)
def test_corrupt_cache_is_measured_again(device: Stepping, tmp_path: Path, content: bytes) -> None:
    assert device.channel_multiple() == 8
    [kept] = (tmp_path / "autoprune" / "staircases").iterdir()
    kept.write_bytes(content)
    assert device.channel_multiple() == 8
    assert Stepping.probes == 2 * len(WIDTHS) * len(KERNELS)
    Staircase.model_validate_json(kept.read_text())


def test_cache_that_cannot_be_written_is_no_error(device: Stepping, tmp_path: Path) -> None:
    (tmp_path / "autoprune").write_text("a file where the folder should be")
    assert device.channel_multiple() == 8


def test_real_device_is_probed(profile: HardwareProfile) -> None:
    """The networks load and run; which multiple comes out is the machine's affair."""
    found = probe(open_device(profile.model_copy(update={"timing": profile.timing})))
    assert found.multiple in (1, 2, 4, 8, 16, 32)
    assert set(found.latency_ms) == {"1x1", "3x3"}


def test_network_takes_any_batch(profile: HardwareProfile, artifact: Artifact, inputs: Arrays) -> None:
    with open_device(profile).predictor(artifact) as predict:
        assert predict([inputs[0].repeat(3, axis=0)])[0].shape == (3, 8, 8, 8)
