"""How reproducible a measured latency is: fresh sessions, fresh processes, beside other work; and what it costs.

Run it on an idle machine: ``python scripts/bench/timing.py --json timing.json``.
"""

import hashlib
import multiprocessing
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import numpy as np
from _bench import Bench, main

from autoprune.devices import measure, open_device
from autoprune.devices.networks import convolutions
from autoprune.devices.staircase import probe
from autoprune.errors import StageError
from autoprune.hardware import load_profile
from autoprune.records import Artifact, Measurement

# name -> width, kernel, layers, size: about 0.1, 0.8 and 5 ms on one core with AVX512
NETWORKS = {"small": (16, 3, 10, 8), "medium": (16, 3, 18, 32), "large": (64, 3, 8, 32)}
SPAWN = multiprocessing.get_context("spawn")


def write_network(folder: Path, name: str) -> Path:
    width, kernel, layers, size = NETWORKS[name]
    path = folder / f"{name}.onnx"
    path.write_bytes(convolutions(width, kernel=kernel, layers=layers, size=size).SerializeToString())
    return path


def time_once(path: Path) -> tuple[Measurement, float]:
    """The measurement, and the seconds that it took."""
    width, _, _, size = NETWORKS[path.stem]
    device = open_device(load_profile("cpu"))
    content = path.read_bytes()
    digest = hashlib.sha256(content).hexdigest()
    artifact = Artifact(path=path, precision="fp32", sha256=digest, size_bytes=len(content))
    inputs = [np.random.default_rng(0).normal(size=(1, width, size, size)).astype(np.float32)]
    with device.lease():
        began = time.monotonic()
        with device.open(artifact, inputs) as session:
            measurement = measure(session, device.profile.timing, device.circumstances("fp32"))
        return measurement, time.monotonic() - began


def in_fresh_process(path: Path) -> tuple[Measurement, float]:
    with ProcessPoolExecutor(max_workers=1, mp_context=SPAWN) as pool:
        return pool.submit(time_once, path).result()


def spin(stop: float) -> None:
    """Integer arithmetic in the first-level cache."""
    while time.monotonic() < stop:
        sum(range(1000))


def stream(stop: float) -> None:
    """Memory bandwidth and the shared cache."""
    source = np.ones(32_000_000, np.float32)
    target = np.zeros_like(source)
    while time.monotonic() < stop:
        np.add(source, 1, out=target)


def burst(stop: float) -> None:
    """Comes and goes."""
    while time.monotonic() < stop:
        spin(time.monotonic() + 0.2)
        time.sleep(0.2)


@contextmanager
def beside(work: Callable[[float], None]) -> Iterator[None]:
    process = SPAWN.Process(target=work, args=(time.monotonic() + 600,), daemon=True)
    process.start()
    time.sleep(1.0)
    try:
        yield
    finally:
        process.kill()
        process.join()


def repeat(once: Callable[[Path], tuple[Measurement, float]], path: Path, n: int) -> list[tuple[Measurement, float]]:
    """Up to ``n`` measurements: one that does not settle gives no number."""
    found = []
    for _ in range(n):
        try:
            found.append(once(path))
        except StageError as error:
            print(f"no number: {error}")
    return found


def describe(found: list[tuple[Measurement, float]], truth_ms: float) -> dict[str, float | int]:
    if len(found) < 2:
        return {"n": len(found)}
    medians = [measurement.median_ms for measurement, _ in found]
    return {
        "n": len(medians),
        "median_ms": statistics.median(medians),
        "cv_percent": 100 * statistics.stdev(medians) / statistics.mean(medians),
        "worst_percent": 100 * max(abs(median / truth_ms - 1) for median in medians),
        "covered_percent": 100 * statistics.mean(m.low_ms <= truth_ms <= m.high_ms for m, _ in found),
        "width_percent": 100 * statistics.median(m.high_ms / m.low_ms - 1 for m, _ in found),
        "flagged": sum(measurement.disturbed for measurement, _ in found),
        "seconds": statistics.median(seconds for _, seconds in found),
    }


def run(bench: Bench) -> None:
    repeats, loads = (3, (spin,)) if bench.quick else (15, (spin, stream, burst))
    networks = ["medium"] if bench.quick else list(NETWORKS)
    with tempfile.TemporaryDirectory() as folder:
        paths = {name: write_network(Path(folder), name) for name in networks}
        idle = _idle(bench, paths, repeats)
        _beside_others(bench, paths, idle, loads, repeats)
    _overhead(bench)
    _probe(bench)


def _idle(bench: Bench, paths: dict[str, Path], repeats: int) -> dict[str, float]:
    """Rows and figures of an idle machine; the median over all measurements by network."""
    truth, cvs, seconds, covered = {}, {}, [], []
    for name, path in paths.items():
        kinds = {
            "fresh sessions": repeat(time_once, path, repeats),
            "fresh processes": repeat(in_fresh_process, path, repeats),
        }
        truth[name] = statistics.median(m.median_ms for found in kinds.values() for m, _ in found)
        for kind, found in kinds.items():
            row = describe(found, truth[name])
            bench.row(network=name, kind=kind, **row)
            cvs.setdefault(kind, []).append(row.get("cv_percent", float("inf")))
            seconds.append(row.get("seconds", float("inf")))
            covered.append(row.get("covered_percent", 0.0))
        bench.say(f"{name}: {truth[name]:.4f} ms idle")
    for kind, values in cvs.items():
        bench.figure(f"CV of medians, {kind}, worst network (%)", max(values), goal="<= 0.5")
    bench.figure("95 % interval covers the median of all sessions (%)", statistics.mean(covered), goal=">= 90")
    bench.figure("cost of a measurement, worst network (s)", max(seconds), goal="<= 0.6")
    return truth


def _beside_others(
    bench: Bench,
    paths: dict[str, Path],
    idle: dict[str, float],
    loads: tuple[Callable[[float], None], ...],
    repeats: int,
) -> None:
    bad, worst = 0, 0.0
    for work in loads:
        with beside(work):
            for name, path in paths.items():
                found = repeat(in_fresh_process, path, repeats)
                off = [abs(m.median_ms / idle[name] - 1) for m, _ in found]
                bad += sum(far > 0.01 and not m.disturbed for far, (m, _) in zip(off, found, strict=True))
                worst = max([worst, *off])
                bench.row(network=name, kind=f"beside {work.__name__}", **describe(found, idle[name]))
        bench.say(f"beside {work.__name__}: worst {100 * worst:.2f} % off")
    bench.figure("beside a busy core: more than 1 % off and not flagged", bad, goal="== 0")
    bench.figure("beside a busy core: worst, flagged or not (%)", 100 * worst)


def _overhead(bench: Bench) -> None:
    """What the loop adds around the runs: a session that takes no time, in a policy of the usual number of runs."""
    from autoprune.testing import FakeSession, steady

    device = open_device(load_profile("cpu"))
    began = time.monotonic()
    measure(FakeSession(steady(1.0)), device.profile.timing, device.circumstances("fp32"))
    bench.figure(
        "overhead of the loop, 1 ms model (ms per measurement)", 1e3 * (time.monotonic() - began), goal="<= 50"
    )


def _probe(bench: Bench) -> None:
    began = time.monotonic()
    found = probe(open_device(load_profile("cpu")))
    bench.figure("channel multiple (probed)", found.multiple)
    bench.figure("cost of the probe (s)", time.monotonic() - began, goal="<= 5")
    for name, stairs in found.latency_ms.items():
        bench.say(f"{name}: " + " ".join(f"{width}:{1e3 * latency:.1f}" for width, latency in stairs.items()) + " us")


if __name__ == "__main__":
    main("Timing", run)
