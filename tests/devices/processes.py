"""Processes that should have ended: a kill is sent some time before the process is gone."""

import time
from collections.abc import Callable
from pathlib import Path

import psutil

Of = Callable[[psutil.Process], bool]


def given(argument: str) -> Of:
    """Whether one of its arguments holds this path or is this word."""
    return lambda process: any(one == argument or f"{argument}/" in one for one in process.cmdline())


def keeping_to(home: Path) -> Of:
    """Whether it works for a device that keeps its artifacts there."""
    return lambda process: process.environ().get("XDG_CACHE_HOME") == str(home)


def running(of: Of) -> list[psutil.Process]:
    """Those that are not dead yet."""
    found = []
    for process in psutil.process_iter():
        try:
            if of(process) and process.status() != psutil.STATUS_ZOMBIE:
                found.append(process)
        except (psutil.NoSuchProcess, psutil.AccessDenied, psutil.ZombieProcess):
            continue
    return found


def gone(of: Of) -> bool:
    """Whether none runs, within seconds."""
    until = time.monotonic() + 10
    while running(of) and time.monotonic() < until:
        time.sleep(0.05)
    return not running(of)
