"""Commands that are run when this process is done or gone, however it goes."""

from __future__ import annotations

import contextlib
import json
import subprocess
import sys
from collections.abc import Iterator, Sequence

SECONDS = 60.0  # for each command
GUARD = """\
import json, shlex, subprocess, sys
lines = json.loads(sys.argv[1])
sys.stdin.buffer.read()  # ends when whoever started this closes it, or is no more
failed = []
for line in lines:
    try:
        done = subprocess.run(line, stdin=subprocess.DEVNULL, capture_output=True, timeout=float(sys.argv[2]))
        said = (done.stderr or done.stdout).decode("utf-8", "replace").strip()[-500:]
        if done.returncode:
            failed.append("%s ended with status %d. %s" % (shlex.join(line), done.returncode, said))
    except Exception as error:
        failed.append("%s: %s" % (shlex.join(line), error))
print(" ".join(failed))
"""


@contextlib.contextmanager
def afterwards(lines: Sequence[Sequence[str]]) -> Iterator[list[str]]:
    """Run the command ``lines`` when the context is left, or when this process is killed; no signal ends the guard.

    What goes wrong with them is in the list, once the context is left.
    """
    guard = subprocess.Popen(  # noqa: S603 - an argument list of ours
        [sys.executable, "-c", GUARD, json.dumps([list(line) for line in lines]), str(SECONDS)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    wrong: list[str] = []
    try:
        yield wrong
    finally:
        said, _ = guard.communicate()
        wrong += [said.strip()] if said.strip() else []
