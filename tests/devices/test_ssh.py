"""Measuring over a real ssh: the contract of all devices, and what goes wrong with connections."""

import contextlib
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from autoprune.devices import Arrays, Device, open_device
from autoprune.devices.remote import RemoteDevice
from autoprune.errors import DeviceError, StageError, TargetError
from autoprune.hardware import Capabilities, HardwareProfile
from autoprune.records import Artifact
from autoprune.testing import DeviceContract
from tests.devices import sshd
from tests.devices.processes import gone, keeping_to, running

pytestmark = pytest.mark.skipif(not sshd.available(), reason=sshd.MISSING)


@pytest.fixture(scope="module")
def client(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    with sshd.running(tmp_path_factory.mktemp("sshd")) as path:
        yield path


@pytest.fixture
def home(tmp_path: Path) -> Path:
    """Where the device keeps artifacts."""
    return tmp_path / "device"


@pytest.fixture
def there(profile: HardwareProfile, client: Path, home: Path, monkeypatch: pytest.MonkeyPatch) -> HardwareProfile:
    """This machine, reached by ssh, its Python in a wrapper that keeps to ``home``."""
    monkeypatch.setenv("PATH", f"{client}{os.pathsep}{os.environ['PATH']}")
    python = client.parent / f"python-{home.parent.name}"
    python.write_text(f'#!/bin/sh\nXDG_CACHE_HOME={home} exec {sys.executable} "$@"\n')
    python.chmod(0o755)
    capabilities = Capabilities(channel_multiple=8)
    return profile.model_copy(
        update={"connection": "ssh://device", "python": str(python), "capabilities": capabilities}
    )


@pytest.fixture
def device(there: HardwareProfile) -> Iterator[Device]:
    found = open_device(there)
    assert isinstance(found, RemoteDevice)
    yield found
    found.close()


class TestSshDevice(DeviceContract):
    """The device is this machine."""

    def test_it_is_the_device_that_it_is_without_ssh(self, device: Device, profile: HardwareProfile) -> None:
        here, there = open_device(profile).facts(), device.facts()
        assert {key: there[key] for key in ("runtime", "runtime_version", "cpu", "cores", "os")}.items() <= here.items()


def test_it_is_not_shared_while_timing(device: RemoteDevice, profile: HardwareProfile) -> None:
    waited: list[str] = []

    def hears(message: str) -> None:
        waited.append(message)
        here.close()

    here = contextlib.ExitStack()
    with here:
        here.enter_context(open_device(profile).lease())
        with device.lease(on_wait=hears):
            assert waited == ["Waiting for device 'here': another process measures on it."]


def test_an_artifact_is_sent_once(device: RemoteDevice, artifact: Artifact, inputs: Arrays, home: Path) -> None:
    with device.open(artifact, inputs):
        (kept,) = (home / "autoprune-agent").iterdir()
        written = kept.stat().st_ctime_ns, kept.stat().st_ino
    with device.open(artifact, inputs):
        pass
    assert kept.name == artifact.sha256
    assert kept.stat().st_ino == written[1]
    assert kept.read_bytes() == artifact.path.read_bytes()


def test_predictions_are_those_of_this_machine(
    device: RemoteDevice, profile: HardwareProfile, artifact: Artifact, inputs: Arrays
) -> None:
    with device.predictor(artifact) as there, open_device(profile).predictor(artifact) as here:
        for one, other in zip(there(inputs), here(inputs), strict=True):
            assert (one == other).all()


def children(of: int) -> list[psutil.Process]:
    return psutil.Process(of).children(recursive=True)


def test_nothing_is_left_behind(device: RemoteDevice, artifact: Artifact, inputs: Arrays, home: Path) -> None:
    with device.open(artifact, inputs) as session:
        session.run(1)
        assert running(keeping_to(home))
    device.close()
    assert gone(keeping_to(home))


def test_nothing_is_left_behind_by_a_connection_that_breaks(
    device: RemoteDevice, artifact: Artifact, inputs: Arrays, home: Path
) -> None:
    with device.open(artifact, inputs) as session:
        next(child for child in children(os.getpid()) if child.name() == "ssh").kill()
        with pytest.raises(DeviceError, match=r"is lost|cannot be reached"):
            session.run(100_000_000)
    assert gone(keeping_to(home))
    with device.open(artifact, inputs) as session:  # the next one connects again
        assert len(session.run(2)) == 2


def test_an_agent_that_dies_is_the_devices_fault(
    device: RemoteDevice, artifact: Artifact, inputs: Arrays, home: Path
) -> None:
    with device.open(artifact, inputs) as session:
        next(process for process in running(keeping_to(home)) if process.children()).kill()
        with pytest.raises(DeviceError, match=r"is lost|cannot be reached"):
            session.run(1)
    assert gone(keeping_to(home))


def test_a_worker_that_dies_is_the_candidates_fault(
    device: RemoteDevice, artifact: Artifact, inputs: Arrays, home: Path
) -> None:
    with device.open(artifact, inputs) as session:
        next(process for process in running(keeping_to(home)) if not process.children()).send_signal(signal.SIGSEGV)
        with pytest.raises(StageError) as caught:
            session.run(1)
    assert caught.value.kind == "crash"
    with device.open(artifact, inputs) as session:
        assert len(session.run(2)) == 2


def test_a_device_that_has_changed_is_not_measured_on(device: RemoteDevice) -> None:
    device.facts()
    device.close()
    assert device.facts()["runtime"] == "onnxruntime"
    device._facts["runtime_version"] = "0.9"
    device.close()
    with pytest.raises(DeviceError, match=r"has changed while it was away: runtime_version was 0.9, is 1\."):
        device.circumstances("fp32")


def test_a_full_disk_is_the_devices_fault(device: RemoteDevice, artifact: Artifact, inputs: Arrays, home: Path) -> None:
    home.mkdir()
    (home / "autoprune-agent").symlink_to("/dev/full")
    with pytest.raises(DeviceError, match="cannot be kept"), device.open(artifact, inputs):
        pass


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"connection": "ssh://127.0.0.1:1"}, "refused"),
        ({"connection": "ssh://nobody@device"}, "Permission denied"),
        ({"python": "/no/such/python"}, "No such file|not found"),
    ],
)
def test_what_ssh_says_is_passed_on(there: HardwareProfile, change: dict[str, str], says: str) -> None:
    device = open_device(there.model_copy(update=change))
    with pytest.raises(DeviceError, match=says):
        device.facts()


def test_a_runtime_that_is_not_there(there: HardwareProfile, client: Path, home: Path) -> None:
    bare = client.parent / f"bare-{home.parent.name}"
    bare.write_text(f'#!/bin/sh\nexec {sys.executable} -I -S "$@"\n')
    bare.chmod(0o755)
    device = open_device(there.model_copy(update={"python": str(bare)}))
    with pytest.raises(DeviceError, match="pip install onnxruntime"):
        device.facts()


def test_a_host_that_is_not_known_is_not_trusted(there: HardwareProfile, client: Path) -> None:
    known = client.parent / "known"
    kept = known.read_text()
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", client.parent / "other"], check=True)
    other = (client.parent / "other.pub").read_text().split()[:2]
    known.write_text(f"{kept.split()[0]} {' '.join(other)}\n")
    try:
        with pytest.raises(DeviceError, match="Host key verification failed"):
            open_device(there).facts()
    finally:
        known.write_text(kept)
        for name in ("other", "other.pub"):
            (client.parent / name).unlink()


@pytest.mark.parametrize(
    "address",
    [
        "ssh://",
        "ssh://-oProxyCommand=x",
        "ftp://device",
        "device",
        "ssh://u:secret@device",
        "ssh://device/path",
        "ssh://a:x",
    ],
)
def test_what_is_no_address(there: HardwareProfile, address: str) -> None:
    with pytest.raises(TargetError, match="no address"):
        open_device(there.model_copy(update={"connection": address}))
