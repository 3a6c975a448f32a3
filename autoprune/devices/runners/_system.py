"""What the runners that look after a board ask its system: files, and commands that may be absent."""

from __future__ import annotations

import os
import shutil
import subprocess


def read(path: str) -> str:
    """What a file holds, without space around it; empty where it cannot be read."""
    try:
        with open(path, encoding="utf-8", errors="replace") as file:
            return file.read().strip()
    except OSError:
        return ""


def run(*command: str, seconds: float) -> tuple[bool, str, str]:
    """Whether a command worked, what it printed, and what it complained of; one that is absent says nothing."""
    path = shutil.which(command[0], path=os.environ.get("PATH", os.defpath) + ":/usr/sbin:/sbin")
    if not path:
        return False, "", ""
    try:
        ran = subprocess.run(  # noqa: S603 - an argument list of ours
            [path, *command[1:]],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=seconds,
            check=False,
        )
    except (OSError, subprocess.SubprocessError) as error:
        return False, "", str(error)
    out, complaint = (text.decode("utf-8", "replace").strip() for text in (ran.stdout, ran.stderr))
    return not ran.returncode, out, complaint
