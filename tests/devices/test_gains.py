"""What narrower numbers and zeros save, as measured, refused and remembered."""

import contextlib
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import onnx
import pytest

from autoprune.devices import Device, Predict, gains, open_device
from autoprune.devices.gains import Gains, probe
from autoprune.devices.networks import network
from autoprune.errors import StageError
from autoprune.hardware import Capabilities, HardwareProfile, Precision
from autoprune.records import Artifact
from autoprune.testing import FakeDevice, steady

PROBED = Capabilities(channel_multiple=8, precisions="probe", sparsity="probe")


class Odd(FakeDevice):
    """INT8 takes half the time, and 2:4 in FP16 too; FP16 takes longer; or something goes wrong."""

    refuses: tuple[Precision, ...] = ()
    wrong: tuple[Precision, ...] = ()
    probes = 0

    def __init__(self, profile: HardwareProfile) -> None:
        super().__init__(profile, script=lambda artifact: steady(self._ms(artifact)))

    def hears(self, weights: np.ndarray) -> None:
        """Told of those in INT8."""

    def _ms(self, artifact: Artifact) -> float:
        weights = [onnx.numpy_helper.to_array(one) for one in onnx.load(artifact.path).graph.initializer]
        sparse = np.mean(np.concatenate([one.ravel() for one in weights if one.ndim == 4]) == 0)
        if artifact.precision == "int8":
            self.hears(np.concatenate([one.ravel() for one in weights if one.dtype == np.int8]))
            return 0.5
        if artifact.precision == "fp16":
            return 0.6 if 0.4 < sparse < 0.6 else 1.2
        return 1.0

    @contextlib.contextmanager
    def predictor(self, artifact: Artifact) -> Iterator[Predict]:
        type(self).probes += 1
        if artifact.precision in self.refuses:
            raise StageError(f"no {artifact.precision} here.", kind="runtime")
        with super().predictor(artifact) as predict:
            yield (lambda inputs: [-one for one in predict(inputs)]) if artifact.precision in self.wrong else predict


@pytest.fixture
def odd(profile: HardwareProfile, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Odd:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    return Odd(profile.model_copy(update={"capabilities": PROBED}))


def test_what_pays_is_offered_and_measured_once(odd: Odd) -> None:
    found = gains(odd)
    assert found.speedup["int8"] == pytest.approx(2.0, rel=0.02)
    assert found.speedup["fp16"] == pytest.approx(1 / 1.2, rel=0.02)
    assert found.speedup["2:4"] == pytest.approx(2.0, rel=0.02), "in the precision that it suits best"
    assert found.speedup["unstructured"] == pytest.approx(1.0, rel=0.02)
    probes = Odd.probes
    assert odd.precisions() == ("fp32", "int8")
    assert found.sparsity == ("2:4",)
    assert Odd.probes == probes


def test_what_is_declared_is_not_probed(profile: HardwareProfile) -> None:
    declared = Capabilities(channel_multiple=8, precisions=("fp32", "fp16"), sparsity=("unstructured",))
    device, probes = Odd(profile.model_copy(update={"capabilities": declared})), Odd.probes
    assert device.precisions() == ("fp32", "fp16")
    assert Odd.probes == probes


def test_what_does_not_run_is_left_out_with_its_reason(odd: Odd, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Odd, "refuses", ("int8",))
    found = probe(odd)
    assert found.refused == {"int8": "no int8 here."}
    assert found.precisions == ("fp32",)


def test_where_sparse_kernels_may_not_be_used_is_another_measurement(odd: Odd) -> None:
    gains(odd)
    without = Odd(odd.profile.model_copy(update={"capabilities": Capabilities(channel_multiple=8, precisions="probe")}))
    probes = Odd.probes
    gains(without)
    assert Odd.probes > probes


def test_what_computes_something_else_is_left_out(odd: Odd, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Odd, "wrong", ("int8",))
    assert "deviates" in probe(odd).refused["int8"]


@pytest.mark.parametrize(("flags", "largest"), [("avx2", 64), ("avx2 avx512_vnni", 127)])
def test_int8_is_probed_with_weights_that_the_device_sums(
    odd: Odd, monkeypatch: pytest.MonkeyPatch, flags: str, largest: int
) -> None:
    found: list[int] = []
    monkeypatch.setattr(Odd, "facts", lambda self: {"os": "Linux x86_64", "flags": flags})
    monkeypatch.setattr(Odd, "hears", lambda self, weights: found.append(int(np.abs(weights.astype(int)).max())))
    probe(odd)
    assert max(found) == largest


def test_a_device_without_fp32_is_an_error(odd: Odd, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Odd, "refuses", ("fp32",))
    with pytest.raises(StageError, match="no fp32 here"):
        probe(odd)


@pytest.mark.parametrize(("zeros", "share"), [("2:4", 0.5), ("unstructured", 0.9), (None, 0.0)])
def test_zeros_are_where_they_are_said_to_be(tmp_path: Path, zeros: str | None, share: float) -> None:
    artifact = network(tmp_path / "x", "onnx", width=16, kernel=3, layers=2, size=8, zeros=zeros)  # type: ignore[arg-type]
    for tensor in onnx.load(artifact.path).graph.initializer:
        weight = onnx.numpy_helper.to_array(tensor)
        assert np.mean(weight == 0) == pytest.approx(share, abs=0.03)
        if zeros == "2:4":
            assert set((weight.reshape(16, 4, 4, 3, 3) != 0).sum(axis=2).ravel()) == {2}


def test_this_machine_is_probed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, profile: HardwareProfile) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    device: Device = open_device(profile.model_copy(update={"runtime": "onnxruntime", "capabilities": PROBED}))
    found = gains(device)
    assert set(found.speedup) | set(found.refused) == {"int8", "fp16", "2:4", "unstructured"}
    assert found.speedup["2:4"] == pytest.approx(1.0, abs=0.4), "ONNX Runtime's CPU kernels skip no zeros"
    assert Gains.model_validate_json(next(tmp_path.rglob("gains/*.json")).read_text()) == found
