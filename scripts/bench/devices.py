"""What it costs to measure over ssh, beside measuring here: the same artifact, the same machine, blocks interleaved.

``--connect`` is the way to this machine, such as ssh://localhost, ``--python`` a Python of it that has ONNX Runtime.
"""

import argparse
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from contextlib import ExitStack
from functools import partial
from pathlib import Path

import numpy as np
from _bench import Bench, main

from autoprune.devices import Arrays, Device, measure, measure_together, open_device
from autoprune.devices.networks import network
from autoprune.devices.ways.ssh import SshDevice
from autoprune.hardware import load_profile
from autoprune.records import Artifact

WIDTH, LAYERS, SIZE = 64, 6, 16  # about a millisecond
PAIRS = 5


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
    """Seconds of one measurement that are not inferences, loading the runtime included."""
    with device.lease():
        began = time.monotonic()
        with device.open(artifact, inputs) as session:
            inferring = Inferring(session.run)
            session.run = inferring  # type: ignore[method-assign]
            measure(session, device.profile.timing, device.circumstances("fp32"))
        return time.monotonic() - began - inferring.seconds


class Inferring:
    """Runs, and sums up what they take."""

    def __init__(self, run: Callable[[int], list[float]]) -> None:
        self._run, self.seconds = run, 0.0

    def __call__(self, n: int) -> list[float]:
        samples = self._run(n)
        self.seconds += sum(samples)
        return samples


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
