"""Clocks that are held and given back: on a tree that stands in for /sys, with stand-ins for jetson_clocks, nvidia-smi.

Processes, pipes and kills are real. None of this was run on a board.
"""

import json
import os
import signal
import stat
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from autoprune.devices import open_device
from autoprune.devices._wire import BOOT, Connection
from autoprune.devices.clocks import HeldClocks
from autoprune.hardware import HardwareProfile

HERE = [sys.executable, "-u", "-c", BOOT]
GOVERNORS = {"policy0": "schedutil", "policy4": "ondemand"}
JETSON_CLOCKS = """\
#!/bin/sh
# stands in for jetson_clocks: --show, --store FILE, --restore FILE, or nothing, as its --help says
echo "$@" >>{log}
case "$1" in
  --store) if [ -e "$2" ]; then read answer || exit 1; fi; cat {state} >"$2" ;;
  --restore) cat "$2" >{state} ;;
  "") {act} ;;
  *) echo "Unknown option $1"; exit 1 ;;
esac
"""
NVIDIA_SMI = """\
#!/bin/sh
# stands in for nvidia-smi: options as its --help says
echo "$@" >>{log}
case "$*" in
  "--id=0 --query-gpu=clocks.default_applications.graphics,clocks.max.graphics --format=csv,noheader,nounits")
    echo "[N/A], 1980" ;;
  "--id=0 --lock-gpu-clocks=1980,1980") {act} ;;
  "--id=0 --reset-gpu-clocks") : >{state} ;;
  *) exit 2 ;;
esac
"""


@pytest.fixture
def tree(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """What stands in for the root of a board; its agent keeps what it remembers beside it."""
    for policy, governor in GOVERNORS.items():
        folder = tmp_path / "board" / "sys/devices/system/cpu/cpufreq" / policy
        folder.mkdir(parents=True)
        (folder / "scaling_governor").write_text(governor + "\n")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr("autoprune.devices.clocks.ROOT", str(tmp_path / "board"))
    return tmp_path / "board"


@pytest.fixture
def connection(tree: Path) -> Iterator[Connection]:
    found = Connection(HERE, "here")
    yield found
    found.close()


def governors(tree: Path) -> dict[str, str]:
    return {path.parent.name: path.read_text().strip() for path in tree.rglob("scaling_governor")}


def held(tree: Path) -> bool:
    return set(governors(tree).values()) == {"performance"}


def remembered(tree: Path) -> Path:
    return tree.parent / "cache" / "autoprune-clocks.json"


def given_back(tree: Path) -> bool:
    """Within seconds, with nothing left of it."""
    until = time.monotonic() + 10
    while time.monotonic() < until:
        if governors(tree) == GOVERNORS and not remembered(tree).exists():
            return True
        time.sleep(0.02)
    return False


def command(folder: Path, text: str, *, act: str, name: str, monkeypatch: pytest.MonkeyPatch) -> tuple[Path, Path]:
    """A stand-in for a command; the file of its state, and its log."""
    state, log = folder / f"{name}.state", folder / f"{name}.log"
    state.write_text("as it was\n")
    (folder / "bin").mkdir(exist_ok=True)
    path = folder / "bin" / name
    path.write_text(text.format(state=state, log=log, act=act.format(state=state)))
    path.chmod(path.stat().st_mode | stat.S_IXUSR)
    monkeypatch.setenv("PATH", f"{folder / 'bin'}{os.pathsep}{os.environ['PATH']}")
    return state, log


def test_governors_are_held_and_given_back(tree: Path, connection: Connection) -> None:
    said: list[str] = []
    clocks = HeldClocks(connection, said.append, gpu=False)
    assert held(tree)
    assert json.loads(remembered(tree).read_text())["governors"] == GOVERNORS
    assert clocks.said == "governor of policy0, governor of policy4"
    clocks.release()
    assert governors(tree) == GOVERNORS
    assert not remembered(tree).exists()
    assert said == ["The clocks of device 'here' are held until the end: governor of policy0, governor of policy4."]


def test_a_connection_that_ends_gives_them_back(tree: Path, connection: Connection) -> None:
    HeldClocks(connection, print, gpu=False)
    assert held(tree)
    connection.close()
    assert given_back(tree)


@pytest.mark.parametrize("whom", ["agent", "worker"])
def test_whoever_is_killed_on_the_device_gives_them_back(tree: Path, connection: Connection, whom: str) -> None:
    HeldClocks(connection, print, gpu=False)
    agent = psutil.Process(connection._process.pid)
    (agent if whom == "agent" else agent.children()[0]).kill()
    assert given_back(tree)


HOST = """\
import signal, sys, time
signal.signal(signal.SIGINT, signal.default_int_handler)  # which is off in what a script runs in the background
from autoprune.devices import clocks, open_device
from autoprune.hardware import load_profile
clocks.ROOT = sys.argv[1]
with open_device(load_profile("cpu")).steady_clocks(print):
    print("held", flush=True)
    {then}
"""


def host(tree: Path, then: str) -> subprocess.Popen[str]:
    """Another process that holds them, by now."""
    process = subprocess.Popen(
        [sys.executable, "-c", HOST.format(then=then), str(tree)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout
    while process.stdout.readline().strip() not in ("held", ""):
        pass
    assert held(tree)
    return process


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM, signal.SIGINT])
def test_a_host_that_is_killed_gives_them_back(tree: Path, number: int) -> None:
    with host(tree, "time.sleep(100)") as process:
        process.send_signal(number)
    assert given_back(tree)


def test_a_host_that_fails_gives_them_back(tree: Path) -> None:
    with host(tree, "sys.stdin.read(); 1 / 0") as process:
        process.communicate()
    assert given_back(tree)


def test_what_even_the_guard_could_not_give_back_the_next_one_does(tree: Path, connection: Connection) -> None:
    HeldClocks(connection, print, gpu=False)
    (worker,) = psutil.Process(connection._process.pid).children()
    (guard,) = worker.children()
    guard.kill()
    connection.close()
    assert held(tree)
    said: list[str] = []
    with host_connection() as again:
        clocks = HeldClocks(again, said.append, gpu=False)
        assert "were set back first" in said[0]
        assert json.loads(remembered(tree).read_text())["governors"] == GOVERNORS
        clocks.release()
    assert governors(tree) == GOVERNORS
    assert not remembered(tree).exists()


class host_connection:
    """Another agent here."""

    def __enter__(self) -> Connection:
        self.connection = Connection(HERE, "here")
        return self.connection

    def __exit__(self, *_: object) -> None:
        self.connection.close()


def test_two_runs_do_not_take_them_from_each_other(tree: Path, connection: Connection) -> None:
    first = HeldClocks(connection, print, gpu=False)
    said: list[str] = []
    with host_connection() as other:
        HeldClocks(other, said.append, gpu=False).release()
    assert said == ["Clocks of device 'here' are left as they are: another run holds them."]
    assert held(tree)
    first.release()
    assert governors(tree) == GOVERNORS


def test_what_is_refused_is_a_sentence(tree: Path, connection: Connection) -> None:
    for path in list(tree.rglob("scaling_governor")):
        path.unlink()
        path.mkdir()  # root may write to every file
    said: list[str] = []
    clocks = HeldClocks(connection, said.append, gpu=False)
    assert "left as they are: governor of policy0: Is a directory" in said[0]
    assert clocks.said == "as they were"
    clocks.release()


def test_a_board_with_nothing_to_hold_says_so(tree: Path, connection: Connection) -> None:
    for path in list(tree.rglob("scaling_governor")):
        path.unlink()
        path.parent.rmdir()
    said: list[str] = []
    HeldClocks(connection, said.append, gpu=False).release()
    assert said == ["Clocks of device 'here' are left as they are: there is nothing that autoprune knows to hold."]


def test_a_file_of_lies_sets_nothing_but_governors(tree: Path, connection: Connection) -> None:
    remembered(tree).parent.mkdir()
    lies = {"governors": {"policy0": "../../x", "../policy4": "powersave", "policy4": 7}, "gpu": [], "more": "x"}
    remembered(tree).write_text(json.dumps(lies))
    clocks = HeldClocks(connection, print, gpu=False)
    clocks.release()
    assert governors(tree) == GOVERNORS


def test_a_jetson_is_asked_by_its_own_command(tree: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    state, log = command(
        tmp_path, JETSON_CLOCKS, act="echo locked >{state}", name="jetson_clocks", monkeypatch=monkeypatch
    )
    with host_connection() as connection:
        clocks = HeldClocks(connection, print, gpu=False)
        assert clocks.said == "jetson_clocks"
        assert state.read_text() == "locked\n"
        assert governors(tree) == GOVERNORS, "jetson_clocks sees to them"
    assert given_back(tree)
    assert state.read_text() == "as it was\n"
    stored = f"{remembered(tree)}.jetson"
    assert log.read_text().splitlines() == [f"--store {stored}", "", f"--restore {stored}"]
    assert not Path(stored).exists()


def test_a_jetson_that_refuses_leaves_the_governors(
    tree: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    command(
        tmp_path, JETSON_CLOCKS, act="echo Please run as root; exit 1", name="jetson_clocks", monkeypatch=monkeypatch
    )
    said: list[str] = []
    with host_connection() as connection:
        clocks = HeldClocks(connection, said.append, gpu=False)
        assert held(tree)
        assert any("jetson_clocks: Please run as root" in one for one in said)
        clocks.release()
    assert governors(tree) == GOVERNORS


def test_a_gpus_clocks_are_locked_where_it_counts(tree: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    state, log = command(tmp_path, NVIDIA_SMI, act="echo locked >{state}", name="nvidia-smi", monkeypatch=monkeypatch)
    with host_connection() as connection:
        HeldClocks(connection, print, gpu=False).release()
        assert not log.exists()
        clocks = HeldClocks(connection, print, gpu=True)
        assert "GPU at 1980 MHz" in clocks.said
        assert state.read_text() == "locked\n"
    assert given_back(tree)
    assert state.read_text() == ""


def test_nothing_is_changed_unless_it_is_allowed(tree: Path, profile: HardwareProfile) -> None:
    device = open_device(profile)
    assert "clocks" not in device.conditions()
    assert governors(tree) == GOVERNORS
    with device.steady_clocks(print):
        assert device.conditions()["clocks"] == "governor of policy0, governor of policy4"
    assert governors(tree) == GOVERNORS
