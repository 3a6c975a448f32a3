"""The lease: on one machine, one measurement at a time per device, whatever run or process asks."""

import contextlib
import os
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

from filelock import FileLock, Timeout

from autoprune.errors import StageError, TargetError

CPU, GPU = "cpu", "gpu"  # of this machine
POLL_SECONDS = 0.05
OnWait = Callable[[str], None]


def ignore(message: str) -> None:
    """Tell nobody."""


@contextlib.contextmanager
def lease(name: str, *, timeout_seconds: float = 3600.0, on_wait: OnWait = ignore) -> Iterator[None]:
    """Hold the device ``name``, waiting for whoever holds it; ``on_wait`` is told once, when it must wait.

    A thread that holds the lease may take it again. The operating system frees the lock of a process that dies,
    however it dies.

    Raises:
        StageError: kind ``busy``: still held after ``timeout_seconds``.
        TargetError: the lock file cannot be opened.
    """
    lock = FileLock(lock_path(name), mode=0o666, is_singleton=True)
    try:
        _acquire(lock, name, timeout_seconds, on_wait)
    except OSError as error:
        raise TargetError(f"Device '{name}' cannot be reserved: {lock.lock_file} cannot be locked: {error}.") from error
    try:
        yield
    finally:
        lock.release()


def lock_path(name: str) -> Path:
    """The same for every process and user of this machine; so not below TMPDIR, which a process may have for itself."""
    folder = Path("/tmp") if os.name == "posix" else Path(tempfile.gettempdir())  # noqa: S108 - see above
    return folder / f"autoprune-{name}.lock"


def _acquire(lock: FileLock, name: str, timeout_seconds: float, on_wait: OnWait) -> None:
    with contextlib.suppress(Timeout):
        lock.acquire(blocking=False)
        return
    on_wait(f"Waiting for device '{name}': another process measures on it.")
    try:
        lock.acquire(timeout=timeout_seconds, poll_interval=POLL_SECONDS)
    except Timeout as error:
        message = f"Device '{name}' was still in use by another process after {timeout_seconds:g} s."
        raise StageError(message, kind="busy") from error
