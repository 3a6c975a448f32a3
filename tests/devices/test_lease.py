import os
import signal
import subprocess
import sys
import threading
import time
import uuid
from collections.abc import Callable, Iterator

import pytest

from autoprune.devices import lease
from autoprune.devices.lease import lock_path
from autoprune.errors import StageError, TargetError

HOLD = """
import sys, time
from autoprune.devices import lease
with lease(sys.argv[1]):
    print("held", flush=True)
    time.sleep(60)
"""


@pytest.fixture
def name() -> Iterator[str]:
    name = f"test-{uuid.uuid4().hex}"
    yield name
    lock_path(name).unlink(missing_ok=True)


@pytest.fixture
def holder(name: str) -> Iterator["subprocess.Popen[str]"]:
    with subprocess.Popen([sys.executable, "-c", HOLD, name], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "held\n"
        yield process
        process.kill()


def test_kill_frees_the_device_for_who_waits(name: str, holder: "subprocess.Popen[str]") -> None:
    messages: list[str] = []

    def kill_soon(message: str) -> None:
        messages.append(message)
        threading.Timer(0.2, os.kill, (holder.pid, signal.SIGKILL)).start()

    began = time.monotonic()
    with lease(name, on_wait=kill_soon):
        waited = time.monotonic() - began
    assert 0.2 <= waited < 10
    assert len(messages) == 1
    assert name in messages[0]


def test_busy_device_is_a_stage_error_in_the_end(name: str, holder: "subprocess.Popen[str]") -> None:
    with pytest.raises(StageError, match="still in use") as caught, lease(name, timeout_seconds=0.1):
        pass
    assert caught.value.kind == "busy"
    assert holder.poll() is None


def test_free_device_is_had_at_once_and_again(name: str) -> None:
    messages: list[str] = []
    for _ in range(2):
        with lease(name, on_wait=messages.append):
            pass
    assert messages == []


def test_holder_may_take_it_again_and_holds_until_the_outer_end(name: str) -> None:
    seen: list[str] = []

    def contend() -> None:
        try:
            with lease(name, timeout_seconds=0.05):
                seen.append("had")
        except StageError:
            seen.append("refused")

    with lease(name):
        with lease(name):
            pass
        _in_thread(contend)
    _in_thread(contend)
    assert seen == ["refused", "had"]


def _in_thread(work: Callable[[], None]) -> None:
    thread = threading.Thread(target=work)
    thread.start()
    thread.join()


def test_lease_is_freed_after_an_error(name: str) -> None:
    def take() -> None:
        with lease(name, timeout_seconds=0.1):
            seen.append("had")

    seen: list[str] = []
    with pytest.raises(ZeroDivisionError), lease(name):
        raise ZeroDivisionError
    _in_thread(take)
    assert seen == ["had"]


def test_unusable_lock_file_is_a_target_error(name: str) -> None:
    lock_path(name).mkdir()
    try:
        with pytest.raises(TargetError, match="cannot be reserved"), lease(name):
            pass
    finally:
        lock_path(name).rmdir()


def test_temporary_folder_of_the_process_does_not_matter(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    before = lock_path(name)
    monkeypatch.setenv("TMPDIR", "/elsewhere")
    assert lock_path(name) == before
