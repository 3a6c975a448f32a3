"""The fault table of docs/hardware-profiles.md, each row injected for real into a device behind a real sshd.

The device is this machine; what is wrong with it comes from a ``sitecustomize`` on the path of its Python, from limits
of the system, and from a link that goes down. Rows that are tested elsewhere: unreachable, a connection that breaks, an
agent or a worker that dies (test_ssh), and a whole search that meets them (tests/engine/test_over_ssh).
"""

import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
from onnx import TensorProto, helper, numpy_helper

from autoprune.devices import Arrays, agent, measure, open_device, smoke
from autoprune.devices.remote import RemoteDevice
from autoprune.errors import DeviceError, StageError
from autoprune.hardware import HardwareProfile, TimingPolicy
from autoprune.records import Artifact
from tests.devices import netns, sshd
from tests.devices.processes import given, gone

pytestmark = pytest.mark.skipif(not sshd.available(), reason=sshd.MISSING)
QUICK = TimingPolicy(warmup_ms=5, block_ms=5, settle_percent=1000)
CGROUP = Path("/sys/fs/cgroup/memory")
HANGING = """\
import onnxruntime, subprocess
onnxruntime.InferenceSession.run_with_iobinding = lambda *_: subprocess.run(["sleep", "987654"])
"""
WRONG = """\
import onnxruntime
right = onnxruntime.InferenceSession.run
onnxruntime.InferenceSession.run = lambda *all: [one * 1.01 for one in right(*all)]
"""
VERSION = "import onnxruntime; onnxruntime.__version__ = open({path!r}).read()"
CLOCKS = {
    "stands still": "lambda: 1.0",
    "runs backwards": "lambda ticks=iter(range(10**9, 0, -1)): next(ticks) / 1024",
    "is too regular": "lambda ticks=iter(range(10**9)): next(ticks) / 1024",
    "says nothing": "lambda: float('nan')",
}


@pytest.fixture(scope="module")
def client(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    with sshd.running(tmp_path_factory.mktemp("sshd")) as path:
        yield path


Broken = Callable[..., RemoteDevice]


@pytest.fixture
def broken(profile: HardwareProfile, client: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Broken]:
    """``broken(code, before)``: a device whose Python runs ``code`` when it starts, its shell ``before`` that."""
    monkeypatch.setenv("PATH", f"{client}{os.pathsep}{os.environ['PATH']}")
    devices = []

    def make(code: str = "", *, before: str = "") -> RemoteDevice:
        (tmp_path / "sitecustomize.py").write_text(code)
        python = tmp_path / "python"
        environment = f"XDG_CACHE_HOME={tmp_path}/cache PYTHONPATH={tmp_path}"
        python.write_text(f'#!/bin/sh\n{before}\n{environment} exec {sys.executable} "$@"\n')
        python.chmod(0o755)
        device = open_device(profile.model_copy(update={"connection": "ssh://device", "python": str(python)}))
        assert isinstance(device, RemoteDevice)
        devices.append(device)
        return device

    yield make
    for device in devices:
        device.close()


def test_what_hangs_is_ended_there_with_all_that_it_started(
    broken: Broken, artifact: Artifact, inputs: Arrays, monkeypatch: pytest.MonkeyPatch
) -> None:
    device = broken(HANGING)
    with device.open(artifact, inputs) as session:
        monkeypatch.setattr(session._worker, "_deadline_s", 1.0)
        with pytest.raises(StageError, match=r"nothing came back within 1") as caught:
            session.run(1)
    assert caught.value.kind == "hang"
    assert gone(given("987654"))
    assert device.conditions(), "the agent goes on"


@pytest.fixture
def huge(tmp_path: Path, artifact: Artifact) -> Callable[[int], Artifact]:
    """``huge(n)``: a model whose output has so many bytes, all of them written."""

    def make(size: int) -> Artifact:
        shape = numpy_helper.from_array(np.array([size // 4]), "shape")
        node = helper.make_node("Expand", ["input", "shape"], ["output"])
        ends = [helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in ("input", "output")]
        ends[0] = helper.make_tensor_value_info("input", TensorProto.FLOAT, [1])
        graph = helper.make_graph([node], "huge", ends[:1], ends[1:], [shape])
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)
        (tmp_path / "huge.onnx").write_bytes(model.SerializeToString())
        return artifact.model_copy(update={"path": tmp_path / "huge.onnx"})

    return make


ONE = [np.ones(1, np.float32)]


def test_memory_that_is_refused_is_the_candidates_fault(
    broken: Broken, huge: Callable[[int], Artifact], artifact: Artifact, inputs: Arrays
) -> None:
    device = broken(before="ulimit -v 4000000")
    with pytest.raises(StageError) as caught, device.open(huge(8 << 30), ONE) as session:
        session.run(1)
    assert caught.value.kind == "out_of_memory"
    with device.open(artifact, inputs) as session:
        assert len(session.run(2)) == 2


@pytest.mark.skipif(not os.access(CGROUP, os.W_OK), reason="no cgroup of memory may be made here")
def test_a_worker_that_the_system_kills_for_memory_is_the_candidates_fault(
    broken: Broken, huge: Callable[[int], Artifact], artifact: Artifact, inputs: Arrays
) -> None:
    group = CGROUP / f"autoprune-{os.getpid()}"
    group.mkdir()
    try:
        (group / "memory.limit_in_bytes").write_text(str(400 << 20))
        device = broken(before=f"echo $$ >{group}/cgroup.procs")
        with pytest.raises(StageError, match="want of memory") as caught, device.open(huge(1 << 30), ONE) as session:
            session.run(1)
        assert caught.value.kind == "out_of_memory"
        with device.open(artifact, inputs) as session:
            assert len(session.run(2)) == 2
        device.close()
    finally:
        until = time.monotonic() + 10
        while (group / "cgroup.procs").read_text() and time.monotonic() < until:
            time.sleep(0.05)
        group.rmdir()


def test_a_runtime_that_crashes_is_the_candidates_fault(broken: Broken, artifact: Artifact, inputs: Arrays) -> None:
    crash = "import onnxruntime, os; onnxruntime.InferenceSession.run_with_iobinding = lambda *_: os.abort()"
    device = broken(crash)
    says = pytest.raises(StageError, match=f"signal {signal.SIGABRT.value}")
    with says as caught, device.open(artifact, inputs) as session:
        session.run(1)
    assert caught.value.kind == "crash"


def test_a_device_that_computes_something_else_is_found_out(broken: Broken) -> None:
    with pytest.raises(StageError, match="computes something else") as caught:
        smoke(broken(WRONG))
    assert caught.value.kind == "parity"


@pytest.mark.skipif(os.getuid() != 0 or not shutil.which("mount"), reason="only root may mount a disk to fill it")
def test_a_disk_that_is_full_is_the_devices_fault(
    broken: Broken, artifact: Artifact, inputs: Arrays, tmp_path: Path
) -> None:
    (disk := tmp_path / "cache").mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=12k", "none", disk], check=False, capture_output=True)
    if mounted.returncode:
        pytest.skip("no disk may be mounted here")
    try:
        (disk / "full").write_bytes(b"x" * 8192)
        device = broken()
        with pytest.raises(DeviceError, match="No space left on device"), device.open(artifact, inputs):
            pass
        assert not list(disk.glob("autoprune-agent/*")), "nothing half-written is left"
        (disk / "full").unlink()
        with device.open(artifact, inputs) as session:
            assert len(session.run(2)) == 2
        device.close()
    finally:
        subprocess.run(["umount", "-l", disk], check=True)


def test_another_version_of_the_runtime_is_noticed(broken: Broken, tmp_path: Path) -> None:
    (tmp_path / "version").write_text("1.0")
    device = broken(VERSION.format(path=str(tmp_path / "version")))
    assert device.circumstances("fp32").runtime_version == "1.0"
    device.close()
    (tmp_path / "version").write_text("1.1")
    with pytest.raises(DeviceError, match=r"has changed while it was away: runtime_version was 1.0, is 1.1"):
        device.circumstances("fp32")
    (tmp_path / "version").write_text("1.0")
    assert device.circumstances("fp32").runtime_version == "1.0"


@pytest.mark.parametrize("how", CLOCKS)
def test_a_clock_that_lies_makes_no_number(broken: Broken, artifact: Artifact, inputs: Arrays, how: str) -> None:
    device = broken(f"import time; time.perf_counter = {CLOCKS[how]}")
    says = pytest.raises(StageError, match="clock of the device cannot be trusted")
    with says as caught, device.open(artifact, inputs) as session:
        measure(session, QUICK, device.circumstances("fp32"))
    assert caught.value.kind == "clock"


def test_a_host_that_is_gone_without_a_word_holds_no_lease(tmp_path: Path) -> None:
    """Its connection stays, as those that a suspended laptop leaves do."""
    code = "from autoprune.devices import agent; agent.ALONE_SECONDS = 0.3; agent.main()"
    environment = {**os.environ, "XDG_CACHE_HOME": str(tmp_path)}
    with subprocess.Popen(
        [sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE, bufsize=0, env=environment
    ) as process:
        assert process.stdin
        assert process.stdout
        agent.write_frame(process.stdin, {"do": "hello"})
        assert agent.read_frame(process.stdout.read)
        time.sleep(1)
        assert process.poll() is None, "nobody waits for it yet"
        agent.write_frame(process.stdin, {"do": "lease", "name": "fault"})
        assert agent.read_frame(process.stdout.read) == ({"held": True}, b"")
        assert process.wait(5) == 0


@pytest.fixture
def cable(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[netns.Link]:
    """What a device hangs on, in a network namespace, that ssh knows as ``device``."""
    if not netns.available():
        pytest.skip(netns.MISSING)
    (folder := tmp_path / "there").mkdir()
    with netns.device(folder) as (link, path):
        monkeypatch.setenv("PATH", f"{path}{os.pathsep}{os.environ['PATH']}")
        yield link


def test_a_link_that_is_down_for_a_moment_costs_nothing(
    cable: netns.Link, profile: HardwareProfile, artifact: Artifact, inputs: Arrays
) -> None:
    device = open_device(profile.model_copy(update={"connection": "ssh://device", "python": sys.executable}))
    assert isinstance(device, RemoteDevice)
    with device.lease(), device.open(artifact, inputs) as session:
        session.run(1)
        cable.down()
        threading.Timer(2.0, cable.up).start()
        began = time.monotonic()
        samples = session.run(5)
        assert time.monotonic() - began > 1.5
    assert max(samples) < 1.0, "its own clock knows nothing of the link"
    device.close()


@pytest.mark.slow
def test_a_link_that_stays_down_is_the_devices_fault_and_comes_back(
    cable: netns.Link, profile: HardwareProfile, artifact: Artifact, inputs: Arrays
) -> None:
    device = open_device(profile.model_copy(update={"connection": "ssh://device", "python": sys.executable}))
    assert isinstance(device, RemoteDevice)
    with device.open(artifact, inputs) as session:
        cable.down()
        with pytest.raises(DeviceError, match=r"(is lost|cannot be reached).*(not responding|timed out|No route)"):
            session.run(1)
    with pytest.raises(DeviceError, match=r"is lost|cannot be reached"):
        device.facts()
    cable.up()
    with device.lease(), device.open(artifact, inputs) as session:
        assert len(session.run(2)) == 2
    device.close()
