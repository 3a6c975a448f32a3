"""The kit finds what it is there to find, and the fake is what others may build on."""

import contextlib
from collections.abc import Iterator

import pytest

from autoprune.devices import Arrays, Device, Session, measure
from autoprune.devices.local import LocalSession
from autoprune.devices.runtimes.onnxruntime import OnnxRuntimeDevice
from autoprune.hardware import HardwareProfile
from autoprune.records import Artifact
from autoprune.testing import DeviceContract, FakeDevice

KIT = DeviceContract()


class Milliseconds(Session):
    """Gives milliseconds where seconds are asked for."""

    def __init__(self, session: LocalSession) -> None:
        self.session = session

    def run(self, n: int) -> list[float]:
        return [1e3 * sample for sample in self.session.run(n)]


class WrongUnit(OnnxRuntimeDevice):
    @contextlib.contextmanager
    def open(self, artifact: Artifact, inputs: Arrays) -> Iterator[Session]:  # type: ignore[override]
        with super().open(artifact, inputs) as session:
            yield Milliseconds(session)


def test_kit_finds_a_wrong_unit(profile: HardwareProfile, artifact: Artifact, inputs: Arrays) -> None:
    with pytest.raises(AssertionError, match="seconds"):
        KIT.test_run_gives_one_duration_for_each_run(WrongUnit(profile), artifact, inputs)


class Drifting(OnnxRuntimeDevice):
    """Every instance says that it is another device."""

    def facts(self) -> dict[str, str]:
        return {"id": str(id(self))}


def test_kit_finds_facts_that_drift(profile: HardwareProfile) -> None:
    with pytest.raises(AssertionError):
        KIT.test_fingerprint_is_stable(Drifting(profile))


def test_fake_device_follows_the_size(profile: HardwareProfile, artifact: Artifact, inputs: Arrays) -> None:
    device: Device = FakeDevice(profile)
    found = []
    for size_bytes in (1_000_000, 2_000_000):
        sized = artifact.model_copy(update={"size_bytes": size_bytes})
        with device.open(sized, inputs) as session:
            found.append(measure(session, profile.timing, device.circumstances("fp32")).median_ms)
    assert found == pytest.approx([1.0, 2.0], rel=0.01)
    assert device.channel_multiple() == 4
    KIT.test_prediction_is_reproducible(device, artifact, inputs)
