"""A phone behind adb: the profile that ships, against stand-ins of adb and of LiteRT's benchmark_model."""

import os
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from autoprune.devices import Arrays, measure, open_device
from autoprune.devices.ways.adb import AdbDevice
from autoprune.errors import DeviceError, StageError, TargetError
from autoprune.hardware import HardwareProfile, TimingPolicy, load_profile
from autoprune.records import Artifact

STAND_INS = Path(__file__).with_name("stand_ins")
PROPERTIES = {
    "ro.product.model": "Stand-in 9",
    "ro.soc.model": "SI9000",
    "ro.product.cpu.abi": "arm64-v8a",
    "ro.build.fingerprint": "stand/in:15/1",
}
QUICK = TimingPolicy(warmup_ms=1, blocks=6, block_ms=5, settle_percent=1000, max_seconds=60)
KEPT = "data/local/tmp/autoprune"


def program(path: Path, text: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    path.chmod(0o755)
    return path


class Phone:
    """A folder that plays a phone."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        cases = "".join(f"{key}) echo '{value}';;" for key, value in PROPERTIES.items())
        program(folder / "bin" / "getprop", f'#!/bin/sh\ncase "$1" in {cases} esac\n')
        program(folder / "bin" / "dumpsys", "#!/bin/sh\necho 'Current Battery Service state:'; echo '  level: 80'\n")
        clocks = folder / "sys" / "devices" / "system" / "cpu"
        for core in range(2):
            (clocks / f"cpu{core}" / "cpufreq").mkdir(parents=True)
            (clocks / f"cpu{core}" / "cpufreq" / "scaling_cur_freq").write_text(f"{18 + core}00000\n")
        self.is_in("device")

    def is_in(self, state: str) -> None:
        (self.folder / "state").write_text(state)

    def unplug(self) -> None:
        (self.folder / "state").unlink()

    @property
    def models(self) -> list[str]:
        return sorted(path.name for path in (self.folder / KEPT).glob("*.tflite"))


@pytest.fixture
def plug(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], Phone]:
    """``plug("R58M12")``: one more phone is attached."""
    (phones := tmp_path / "phones").mkdir()
    program(tmp_path / "path" / "adb", f'#!/bin/sh\nexec {sys.executable} {STAND_INS / "adb.py"} "$@"\n')
    monkeypatch.setenv("PATH", f"{tmp_path / 'path'}{os.pathsep}{os.environ['PATH']}")
    monkeypatch.setenv("ADB_STAND_IN", str(phones))
    return lambda serial: Phone(phones / serial)


@pytest.fixture
def android(tmp_path: Path, plug: Callable[[str], Phone]) -> HardwareProfile:
    """The profile that ships, with a stand-in as its tool."""
    tool = program(tmp_path / "tool", f'#!/bin/sh\nexec {sys.executable} {STAND_INS / "benchmark_model.py"} "$@"\n')
    profile = load_profile("android")
    assert profile.command
    command = profile.command.model_copy(update={"tool": str(tool), "timeout_s": 20.0})
    return profile.model_copy(update={"command": command, "timing": QUICK})


@pytest.fixture
def phone(plug: Callable[[str], Phone]) -> Phone:
    return plug("R58M12")


@pytest.fixture
def device(android: HardwareProfile, phone: Phone) -> AdbDevice:
    found = open_device(android)
    assert isinstance(found, AdbDevice)
    return found


@pytest.fixture
def model(tmp_path: Path) -> Artifact:
    """Any file: the stand-in runs none."""
    path = tmp_path / "model.tflite"
    path.write_bytes(bytes(5000))
    return Artifact(path=path, precision="fp32", sha256="0" * 64, size_bytes=5000)


@pytest.fixture
def inputs() -> Arrays:
    return [np.zeros((1, 4), np.float32)]


def test_a_phone_is_measured(device: AdbDevice, phone: Phone, model: Artifact, inputs: Arrays) -> None:
    with device.lease(), device.open(model, inputs) as session:
        found = measure(session, device.profile.timing, device.circumstances("fp32"))
    assert found.runtime == "litert"
    assert found.runtime_version.startswith("sha256 ")
    assert found.median_ms == pytest.approx(0.51, rel=0.05)
    assert found.conditions["statistic"] == "a sample is the mean of 10 runs"
    assert found.conditions["clocks_khz"].split() == ["1800000", "1900000"]
    assert found.conditions["parity"] == "checked on this machine, not on the device"
    assert "temperatures" not in found.conditions
    assert len(phone.models) == 1
    device.caller.close()
    assert phone.models == []


def test_its_fixed_performance_mode_is_for_the_measuring_alone(device: AdbDevice, phone: Phone) -> None:
    mode = phone.folder / "mode"
    usage = f'[ "$1 $2" = "power set-fixed-performance-mode-enabled" ] || exit 1; echo "$3" >{mode}'
    program(phone.folder / "bin" / "cmd", f"#!/bin/sh\n{usage}\n")
    with device.steady_clocks(lambda text: None):
        assert mode.read_text() == "true\n"
        assert device.conditions()["clocks"] == "held by the profile's commands"
    assert mode.read_text() == "false\n"


def test_facts_are_those_of_the_phone(device: AdbDevice) -> None:
    facts = device.facts()
    assert (facts["model"], facts["soc"], facts["abi"]) == ("Stand-in 9", "SI9000", "arm64-v8a")


def test_another_tool_is_another_device(device: AdbDevice, android: HardwareProfile, tmp_path: Path) -> None:
    was = device.fingerprint
    with (tmp_path / "tool").open("a") as file:
        file.write("# newer\n")
    assert open_device(android).fingerprint != was
    with pytest.raises(DeviceError, match="runtime_version was sha256"), device.lease():
        pass


@pytest.mark.parametrize(
    ("state", "says"),
    [
        ("offline", "phone R58M12 does not answer"),
        ("unauthorized", "allow USB debugging when it asks"),
        ("no permissions (user in plugdev group); see [http://developer.android.com]", "udev rules"),
        ("recovery", "is in state 'recovery': start Android on it"),
    ],
)
def test_states_are_sentences(device: AdbDevice, phone: Phone, state: str, says: str) -> None:
    phone.is_in(state)
    with pytest.raises(DeviceError, match=says):
        device.facts()


def test_no_phone(device: AdbDevice, phone: Phone) -> None:
    phone.unplug()
    with pytest.raises(DeviceError, match="no phone is attached"):
        device.facts()


def test_several_phones(android: HardwareProfile, plug: Callable[[str], Phone]) -> None:
    for serial in ("A1", "emulator-5554"):
        plug(serial)
    with pytest.raises(TargetError, match=r"\(A1, emulator-5554\): say which, --connect adb://SERIAL"):
        open_device(android).facts()
    one = android.model_copy(update={"connection": "adb://emulator-5554"})
    assert open_device(one).facts()["model"] == "Stand-in 9"
    with pytest.raises(DeviceError, match="phone B2 is not attached; attached are: A1, emulator-5554"):
        open_device(android.model_copy(update={"connection": "adb://B2"})).facts()


def test_a_phone_with_and_without_its_serial_is_one_device(android: HardwareProfile, phone: Phone) -> None:
    devices = [open_device(android.model_copy(update={"connection": way})) for way in ("adb", "adb://R58M12")]
    assert devices[0].fingerprint == devices[1].fingerprint
    assert devices[0].lease_name == devices[1].lease_name


@pytest.mark.parametrize("address", ["adb://a b", "adb://-s", "adb://$(x)", "adb:R58M12", "adb://a;b"])
def test_what_is_no_address(android: HardwareProfile, phone: Phone, address: str) -> None:
    with pytest.raises(TargetError, match="no address"):
        open_device(android.model_copy(update={"connection": address}))


def test_a_phone_that_is_unplugged_is_to_blame(
    device: AdbDevice, phone: Phone, model: Artifact, inputs: Arrays
) -> None:
    with device.open(model, inputs) as session:
        phone.unplug()
        with pytest.raises(DeviceError, match=r"no phone is attached|R58M12 is not attached"):
            session.run(5)
        phone.is_in("device")
        assert len(session.run(5)) == 1, "it is back, and gets everything again"


def test_full_storage_is_the_phones_fault(device: AdbDevice, phone: Phone, model: Artifact, inputs: Arrays) -> None:
    device.facts()
    (phone.folder / "full").touch()
    with pytest.raises(DeviceError, match=r"push failed: adb .*No space left on device"), device.open(model, inputs):
        pass


def test_a_model_that_does_not_load_is_to_blame(
    device: AdbDevice, phone: Phone, model: Artifact, inputs: Arrays, tmp_path: Path
) -> None:
    with device.open(model, inputs):
        pass
    (broken := tmp_path / "broken.tflite").write_bytes(b"no model")
    refused = pytest.raises(StageError, match="not a valid Flatbuffer")
    with refused as caught, device.open(model.model_copy(update={"path": broken}), inputs):
        pass
    assert caught.value.kind == "runtime"


def test_a_model_that_hangs_on_the_phone_is_ended_there(
    device: AdbDevice, phone: Phone, model: Artifact, inputs: Arrays
) -> None:
    with device.open(model, inputs) as session:
        device.caller.values["timeout"] = "1"
        program(phone.folder / KEPT / "benchmark_model", "#!/bin/sh\nexec sleep 97531\n")
        with pytest.raises(DeviceError, match="status 124"):
            session.run(5)


def test_a_tool_that_is_not_there_is_named(android: HardwareProfile) -> None:
    assert android.command
    command = android.command.model_copy(update={"tool": "/nowhere/benchmark_model"})
    with pytest.raises(TargetError, match=r"/nowhere/benchmark_model .*command.tool"):
        open_device(android.model_copy(update={"command": command}))


def test_without_adb_it_is_said(android: HardwareProfile, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/nowhere")
    with pytest.raises(TargetError, match="needs program 'adb'"):
        open_device(android)
