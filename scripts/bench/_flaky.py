"""Stands between a host and its ssh, and makes a bad device of a good one: ``_flaky.py PLAN COMMAND...``.

PLAN is a JSON file: ``share`` of the measurements that are cut off in the middle; ``drop_after`` so many measurements
the device is away for ``drop_s`` seconds, once. What happened is counted in the same file.
"""

import json
import os
import random
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any, NoReturn

from autoprune.devices import agent

PLAN = Path(sys.argv[1])
RUNS, AFTER = ("run", "in_turn"), 20  # requests for runs, until a measurement is cut off: its blocks have begun


def main() -> None:
    if time.time() < read().get("away_until", 0):
        end("ssh: connect to host device port 22: No route to host")
    process = subprocess.Popen(sys.argv[2:], stdin=subprocess.PIPE, bufsize=0)  # its output is that of this process
    assert process.stdin
    threading.Thread(target=lambda: os._exit(process.wait()), daemon=True).start()
    preamble = os.read(0, 8)
    process.stdin.write(preamble + exactly(int(preamble)))
    left = -1  # requests for runs until the end
    while (frame := agent.read_frame(lambda size: os.read(0, size))) is not None:
        if frame[0]["do"] == "lease":
            left = AFTER if measured() else -1
        left -= frame[0]["do"] in RUNS
        if left == 0 and frame[0]["do"] in RUNS:
            process.kill()
            end("Timeout, server device not responding.")
        agent.write_frame(process.stdin, *frame)
    process.stdin.close()
    process.wait()


def exactly(size: int) -> bytes:
    data = b""
    while len(data) < size:
        data += os.read(0, size - len(data))
    return data


def read() -> dict[str, Any]:
    found: dict[str, Any] = json.loads(PLAN.read_text())
    return found


def measured() -> bool:
    """One more measurement begins; whether it is to fail."""
    plan = read()
    plan["measurements"] = number = plan.get("measurements", 0) + 1
    fails = random.Random(number).random() < plan["share"]
    if number == plan["drop_after"]:
        plan["away_until"], fails = time.time() + plan["drop_s"], True
    plan["failed"] = plan.get("failed", 0) + fails
    PLAN.write_text(json.dumps(plan))
    return fails


def end(said: str) -> NoReturn:
    print(said, file=sys.stderr, flush=True)
    os._exit(255)


if __name__ == "__main__":
    main()
