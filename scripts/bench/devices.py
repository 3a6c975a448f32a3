"""What it costs to measure over ssh, beside measuring here; and what a device that fails costs.

First the same artifact, the same machine, blocks interleaved. Then two searches of the same recipes over ssh, one of
them through `_flaky.py`, which cuts measurements off and lets the device vanish: every trial must be scored, with the
same accuracy and a latency that differs by no more than noise. Last, the cases that the tests fuzz the protocol with.

``--connect`` is the way to this machine, such as ssh://localhost, ``--python`` a Python of it that has ONNX Runtime.
"""

import argparse
import json
import os
import re
import shlex
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from functools import partial
from pathlib import Path

import numpy as np
from _bench import Bench, main

import autoprune
from autoprune.devices import Arrays, Device, Session, measure, measure_together, open_device
from autoprune.devices.networks import network
from autoprune.devices.ways.ssh import SshDevice
from autoprune.engine.story import read_story
from autoprune.hardware import load_profile
from autoprune.pareto import OBJECTIVES, interval
from autoprune.records import Artifact, Score, TrialRecord

HERE = Path(__file__).parent
WIDTH, LAYERS, SIZE = 64, 6, 16  # about a millisecond
PAIRS = 5
LATENCY = OBJECTIVES["latency_ms"]
TRIALS, SHARE, DROP_AFTER, DROP_S = 40, 0.2, 30, 30.0
PROFILE = """\
name: device
description: this machine
extends: cpu
python: {python}
timing: {timing}
capabilities: {{channel_multiple: 8}}
"""
SPACE = """\
name: cheap
description: what a device is asked, without what this machine computes for long
keep: {min: 0.25, levels: 8}
criterion: [l2]
recover: [{methods: [bn]}]
"""
HURRY = "{warmup_ms: 5, blocks: 6, block_ms: 5, settle_percent: 200, retries: 0}"
APART = 0.05  # shares of the dense model's latency that differ by less, or within their intervals, are the same
PROPERTIES = "survives_any_bytes or answers_any_request or lies_gets"


def run(bench: Bench, options: argparse.Namespace) -> None:
    profile = load_profile("cpu")
    here = open_device(profile)
    there = SshDevice(profile.model_copy(update={"connection": options.connect, "python": options.python}))
    inputs = [np.ones((1, WIDTH, SIZE, SIZE), np.float32)]
    with tempfile.TemporaryDirectory() as folder:
        artifact = network(Path(folder) / "model", "onnx", width=WIDTH, kernel=3, layers=LAYERS, size=SIZE)
        began = time.monotonic()
        there.conditions()
        bench.figure("start of the agent (s)", time.monotonic() - began, goal="<= 1")
        first, again = (opened_s(there, artifact, inputs) for _ in range(2))
        bench.say(f"opening the artifact: {first:.2f} s when it is sent, {again:.2f} s when it is there")
        ratios, added = [], []
        for _ in range(1 if bench.quick else PAIRS):
            ratios.append(ratio(bench, here, there, artifact, inputs))
            added.append(beside(there, artifact, inputs) - beside(here, artifact, inputs))
        apart = 100 * max(abs(one - 1) for one in ratios)
        bench.figure("median over ssh / here, median over pairs", statistics.median(ratios))
        bench.figure(f"medians over ssh and here apart, worst of {len(ratios)} pairs (%)", apart, goal="<= 2")
        bench.figure("added to a measurement beside its timing (ms)", 1e3 * statistics.median(added), goal="<= 150")
    there.close()
    search_with_faults(bench, options)
    bench.figure("protocol fuzz cases without crash or hang", fuzzed(), goal=">= 1000")


def search_with_faults(bench: Bench, options: argparse.Namespace) -> None:
    """The same recipes on a good device and on a bad one."""
    trials = 6 if bench.quick else TRIALS
    plan = {"share": SHARE, "drop_after": 4 if bench.quick else DROP_AFTER, "drop_s": 3.0 if bench.quick else DROP_S}
    with tempfile.TemporaryDirectory() as folder:
        good = searched(Path(folder), options, trials=trials, name="good", hurry=bench.quick)
        path = Path(folder) / "plan.json"
        path.write_text(json.dumps(plan))
        began = time.monotonic()
        with flaky(Path(folder), path):
            bad = searched(Path(folder), options, trials=trials, name="bad", hurry=bench.quick)
        found = json.loads(path.read_text())
    bench.say(
        f"{found['failed']} of {found['measurements']} measurements were cut off, and the device was away for "
        f"{found['drop_s']:g} s: {time.monotonic() - began:.0f} s in all"
    )
    scored = {recipe: record.score for recipe, record in bad.items() if record.score}
    both = [(scored[one], record.score) for one, record in good.items() if record.score and one in scored]
    bench.figure("trials scored on a device that fails (share)", len(scored) / trials, goal="== 1")
    bench.figure("accuracies that differ from those of a good one", sum(a.accuracy != b.accuracy for a, b in both))
    apart = [(one, other) for one, other in both if differ(one, other)]
    for one, other in apart:
        (_, here, _), (_, there, _) = interval(one, LATENCY), interval(other, LATENCY)
        marks = ["disturbed" if score.latency.disturbed else "quiet" for score in (one, other)]
        bench.say(f"{here:.3f} ({marks[0]}) and {there:.3f} ({marks[1]}) of the dense latency for one recipe")
    bench.figure("latencies that differ beyond the noise", len(apart), goal="== 0")


def searched(
    folder: Path, options: argparse.Namespace, *, trials: int, name: str, hurry: bool
) -> dict[str, TrialRecord]:
    """Records by recipe."""
    profile = folder / "device.yaml"
    profile.write_text(PROFILE.format(python=options.python, timing=HURRY if hurry else "{}"))
    space = folder / "space.yaml"
    space.write_text(SPACE)
    run = autoprune.search(
        task="digits",
        space=str(space),
        target=str(profile),
        connect=options.connect,
        strategy="random",
        trials=trials,
        out=folder / name,
    )
    return {record.recipe.id: record for record in read_story(run.directory).records}


@contextmanager
def flaky(folder: Path, plan: Path) -> Iterator[None]:
    """An ``ssh`` on PATH that goes through `_flaky.py`."""
    path = folder / "bin" / "ssh"
    path.parent.mkdir()
    command = [sys.executable, str(HERE / "_flaky.py"), str(plan), shutil.which("ssh") or "ssh"]
    path.write_text(f'#!/bin/sh\nexec {shlex.join(command)} "$@"\n')
    path.chmod(0o755)
    before = os.environ["PATH"]
    os.environ["PATH"] = f"{path.parent}{os.pathsep}{before}"
    try:
        yield
    finally:
        os.environ["PATH"] = before


def differ(one: Score, other: Score) -> bool:
    """Whether two measurements of a recipe contradict each other."""
    (low, middle, high), (other_low, other_middle, other_high) = (interval(score, LATENCY) for score in (one, other))
    return (high < other_low or other_high < low) and abs(middle / other_middle - 1) > APART


def fuzzed() -> int:
    """Runs the property tests of the protocol; how many cases passed, 0 where one did not."""
    tests = ["tests/devices/test_agent.py", "-k", PROPERTIES, "-q", "--hypothesis-show-statistics"]
    done = subprocess.run(
        [sys.executable, "-m", "pytest", *tests], cwd=HERE.parents[1], capture_output=True, text=True, check=False
    )
    passed = sum(map(int, re.findall(r"(\d+) passing,", done.stdout)))
    return 0 if done.returncode else passed


def ratio(bench: Bench, here: Device, there: Device, artifact: Artifact, inputs: Arrays) -> float:
    """The median over ssh as a share of the one here."""
    with ExitStack() as stack:
        stack.enter_context(here.lease())
        sessions = {
            name: stack.enter_context(device.open(artifact, inputs))
            for name, device in {"here": here, "ssh": there}.items()
        }
        circumstances = dict.fromkeys(sessions, here.circumstances("fp32"))
        timed = measure_together(sessions, here.profile.timing, circumstances)
    bench.row(
        here_ms=timed["here"].median_ms,
        ssh_ms=timed["ssh"].median_ms,
        ratio=timed["ssh"].median_ms / timed["here"].median_ms,
        disturbed=timed["here"].disturbed or timed["ssh"].disturbed,
    )
    return timed["ssh"].median_ms / timed["here"].median_ms


def beside(device: Device, artifact: Artifact, inputs: Arrays) -> float:
    """Seconds of one measurement that are not inferences, loading the runtime included.

    Settled or not after its first blocks, so that noise does not make it a longer measurement here than there.
    """
    policy = device.profile.timing.model_copy(update={"settle_percent": 200.0})
    with device.lease():
        began = time.monotonic()
        with device.open(artifact, inputs) as session:
            inferring = Inferring(session)
            measure(inferring, policy, device.circumstances("fp32"))
        return time.monotonic() - began - inferring.seconds


class Inferring(Session):
    """Another session, whose inferences are summed up; a run that leads in counts as the median of those after it."""

    def __init__(self, session: Session) -> None:
        self._session, self.seconds = session, 0.0

    def run(self, n: int) -> list[float]:
        samples = self._session.run(n)
        self.seconds += sum(samples)
        return samples

    def block(self, lead_in: int, n: int) -> tuple[list[float], float | None]:
        samples, foreign = self._session.block(lead_in, n)
        self.seconds += sum(samples) + lead_in * statistics.median(samples)
        return samples, foreign


def opened_s(device: Device, artifact: Artifact, inputs: Arrays) -> float:
    """Seconds until the artifact can be run."""
    began = time.monotonic()
    with device.open(artifact, inputs) as session:
        session.run(1)
    return time.monotonic() - began


if __name__ == "__main__":
    parser = argparse.ArgumentParser(add_help=False)
    parser.add_argument("--connect", required=True, help="the way to this machine, such as ssh://localhost")
    parser.add_argument("--python", default=sys.executable, help="a Python of it that has ONNX Runtime")
    chosen, sys.argv[1:] = parser.parse_known_args()
    main("Devices", partial(run, options=chosen))
