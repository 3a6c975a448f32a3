"""From what a program printed to seconds."""

from __future__ import annotations

import contextlib
import json
import subprocess
import sys
from typing import Any

from autoprune.commands import SECONDS, STEP, Reading
from autoprune.devices._invoke import Done

MATCH_SECONDS = 10.0
MATCH = """\
import json, re, sys
json.dump(re.findall(sys.argv[1], sys.stdin.buffer.read().decode(), re.M), sys.stdout)
"""
"""In a process of its own: a pattern may take for ever, and nothing else ends one."""


class UnreadError(Exception):
    """Why no latency was found, in words that go on after 'it printed'."""


def durations(reading: Reading, done: Done, runs: int) -> list[float]:
    """Seconds: of each of the last ``runs`` runs, or the one figure that there is over them. Raises UnreadError."""
    found = _by_pattern(reading.pattern, done) if reading.pattern is not None else _by_path(reading, done)
    wanted = runs if reading.gives == "each" else 1
    if len(found) < wanted:
        way = "parse.pattern" if reading.pattern is not None else "parse.json_path"
        raise UnreadError(f"{len(found)} of the {wanted} durations that {way} is to find")
    return [_number(one) * SECONDS[reading.unit] for one in found[-wanted:]]


def _by_pattern(pattern: str, done: Done) -> list[Any]:
    command = [sys.executable, "-I", "-S", "-c", MATCH, pattern]
    text = f"{done.out}\n{done.err}".encode()
    try:
        matched = subprocess.run(  # noqa: S603 - ours
            command, input=text, capture_output=True, timeout=MATCH_SECONDS, check=True
        )
    except subprocess.SubprocessError as error:
        raise UnreadError(f"what takes its pattern longer than {MATCH_SECONDS:g} s to look through") from error
    found: list[Any] = json.loads(matched.stdout)
    return found


def _by_path(reading: Reading, done: Done) -> list[Any]:
    assert reading.json_path
    found = [_json(done.out)]
    for step in reading.json_path.split("."):
        match = STEP.fullmatch(step)
        assert match
        if match[1]:
            found = [one[match[1]] for one in found if isinstance(one, dict) and match[1] in one]
        for index in match[2].strip("[]").split("][") if match[2] else ():
            lists = [one for one in found if isinstance(one, list)]
            found = [one for inner in lists for one in (inner if index == "*" else inner[int(index) : int(index) + 1])]
    return found


def _json(text: str) -> Any:
    """The whole text, or its last line, where a tool has said other things before."""
    for part in (text, text.strip().rpartition("\n")[2]):
        with contextlib.suppress(ValueError, RecursionError):
            return json.loads(part)
    raise UnreadError("what is no JSON")


def _number(found: Any) -> float:
    try:
        if isinstance(found, bool | list | dict):
            raise TypeError
        return float(found)
    except (TypeError, ValueError, OverflowError) as error:
        raise UnreadError(f"{str(found)[:80]!r} where a number was expected") from error
