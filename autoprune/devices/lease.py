"""The lease: on one machine, one measurement at a time per device, whatever run or user's process asks."""

import contextlib
import hashlib
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

from filelock import FileLock, Timeout

from autoprune.errors import StageError

POLL_SECONDS = 0.05


@contextlib.contextmanager
def lease(
    device: str,
    *,
    timeout_seconds: float = 3600.0,
    on_wait: Callable[[str], None] = lambda message: None,
) -> Iterator[None]:
    """Hold the device of that fingerprint, waiting for whoever holds it; ``on_wait`` is told once, when it must wait.

    The operating system frees the lock of a process that dies, however it dies.

    Raises:
        StageError: kind ``busy``: still held after ``timeout_seconds``.
    """
    lock = FileLock(_lock_path(device), mode=0o666)
    try:
        lock.acquire(blocking=False)
    except Timeout:
        on_wait(f"Waiting for device {device}: another process is measuring on it.")
        _wait(lock, device, timeout_seconds)
    try:
        yield
    finally:
        lock.release()


def _wait(lock: FileLock, device: str, timeout_seconds: float) -> None:
    try:
        lock.acquire(timeout=timeout_seconds, poll_interval=POLL_SECONDS)
    except Timeout as error:
        message = f"Device {device} was still in use by another process after {timeout_seconds:g} s."
        raise StageError(message, kind="busy") from error


def _lock_path(device: str) -> Path:
    """In the machine's temporary folder, because the lock is for all users of the machine."""
    return Path(tempfile.gettempdir()) / f"autoprune-{hashlib.sha256(device.encode()).hexdigest()[:16]}.lock"
