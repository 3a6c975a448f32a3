"""The main job, end to end: the demo on digits, then CIFAR-10 ResNet-20 and ResNet-56, one thread, batch 1.

``--searches`` names those to run; ``resnet56-fp32`` may not quantise. Tables are made anew by the first search of a
model. Without the folder that AUTOPRUNE_CIFAR10 names (see ``_models.py``) the CIFAR-10 part is left out and said so.
"""

import argparse
import json
import subprocess
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable, Sequence
from datetime import datetime
from functools import partial
from pathlib import Path
from typing import Any

from _bench import Bench, main
from _models import cache_in, cifar10, task_of

import autoprune
from autoprune.engine import Status
from autoprune.engine.story import read_story
from autoprune.records import TrialRecord

DENSE = {"resnet20": 0.917, "resnet56": 0.934}
UNQUANTISED = {1.25: 0.92, 1.5: 0.905}  # accuracies of ResNet-56 to reach in FP32, by speed-up
BOOKKEEPING = ("cut", "export")  # stages that are neither forward passes nor timing


class Lines:
    """Tells the bench how far a search is."""

    def __init__(self, bench: Bench) -> None:
        self.bench = bench

    def message(self, text: str) -> None:
        self.bench.say(text)

    def stage(self, text: str) -> None:
        """Too much for a log."""

    def status(self, status: Status) -> None:
        if status.done % 8 == 0:
            self.bench.say(f"{status.done}/{status.total}, front {status.front_size}, best {status.best}")


def run(bench: Bench, searches: Sequence[str]) -> None:
    with tempfile.TemporaryDirectory() as folder, cache_in(Path(folder) / "cache"):
        for name in searches:
            if name == "digits" or cifar10(bench):
                SEARCHES[name](bench, Path(folder))


def demo(bench: Bench, folder: Path) -> None:
    """``autoprune search`` on digits with its defaults, as ``scripts/demo`` runs it."""
    command = [sys.executable, "-m", "autoprune", "search", "--task", "digits", "--target", "cpu", "--json"]
    command += ["--out", str(folder / "digits"), *(["--trials", "8"] if bench.quick else [])]
    began = time.monotonic()
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    seconds = time.monotonic() - began
    document = json.loads(done.stdout)
    told(bench, "digits", document)
    bench.figure("demo, seconds", seconds, goal="<= 120")
    bench.figure("demo, points on the front", len(document["front"]), goal=">= 5")
    bench.figure("demo, speed-up within 1 point", best(document, 0.01), goal=">= 1.8")


def searched(bench: Bench, folder: Path, *, model: str) -> None:
    """A search of 64 trials without training, and the seconds of every stage."""
    run = autoprune.search(
        **task_of(model),
        space="default",
        trials=6 if bench.quick else 64,
        out=folder / model,
        observer=Lines(bench),
    )
    document = dict(run.document)
    told(bench, model, document)
    records = read_story(run.directory).records
    whole = {r.recipe.precision: r.score for r in records if not r.recipe.choices and r.score}
    bench.figure(f"{model}, dense accuracy", whole["fp32"].accuracy, goal=f">= {DENSE[model] - 0.003:.3f}")
    bench.figure(f"{model}, dense INT8 accuracy", whole["int8"].accuracy)
    bench.figure(f"{model}, dense INT8 speed-up", whole["int8"].speedup)
    for drop in (0.005, 0.01, 0.02):
        bench.figure(f"{model}, speed-up within {100 * drop:g} points", best(document, drop))
    bench.figure(f"{model}, points on the front", len(document["front"]), goal=">= 5")
    stages(bench, model, records)


def unquantised(bench: Bench, folder: Path, *, model: str) -> None:
    """Without training and in FP32 alone: a search of 30 trials for each speed-up that is asked for."""
    space = folder / "fp32.yaml"
    space.write_text("name: fp32\ndescription: nothing quantised\nprecision: [fp32]\n", encoding="utf-8")
    for speedup, goal in UNQUANTISED.items():
        run = autoprune.search(
            **task_of(model),
            space=str(space),
            min_speedup=speedup,
            trials=6 if bench.quick else 30,
            out=folder / f"{model}-{speedup:g}x",
            observer=Lines(bench),
        )
        told(bench, f"{model} to {speedup:g}x", dict(run.document))
        reached = (member["accuracy"] for member in run.document["front"] if member["speedup"] >= speedup)
        bench.figure(f"{model} in FP32, accuracy at {speedup:g}x", max(reached, default=0.0), goal=f">= {goal}")


def stages(bench: Bench, model: str, records: tuple[TrialRecord, ...]) -> None:
    """Seconds per trial by stage, and the share that is neither forward passes nor timing."""
    seconds: dict[str, float] = defaultdict(float)
    for record in records[2:]:  # the first trials pay for what all share
        for stage, spent in record.stages.items():
            seconds[stage] += spent / (len(records) - 2)
    began, ended = (datetime.fromisoformat(record.finished_at) for record in (records[1], records[-1]))
    trial = (ended - began).total_seconds() / (len(records) - 2)
    work = sum(spent for stage, spent in seconds.items() if stage not in BOOKKEEPING)
    seconds["ask, tell, files"] = trial - sum(seconds.values())
    bench.row(model=model, **{f"{stage}_s": round(spent, 3) for stage, spent in seconds.items()})
    bench.figure(f"{model}, seconds per trial", trial)
    bench.figure(f"{model}, bookkeeping share (%)", 100 * (1 - work / trial), goal="<= 25")


def told(bench: Bench, model: str, document: dict[str, Any]) -> None:
    """One row per member of the front."""
    for member in (document["baseline"], *document["front"]):
        bench.row(
            model=model,
            recipe=member["recipe"],
            precision=member["precision"],
            accuracy=member["accuracy"],
            latency_ms=member["latency_ms"],
            noise=f"{member['latency_low_ms']:.4g}..{member['latency_high_ms']:.4g}",
            speedup=member["speedup"],
            size_bytes=member["size_bytes"],
            disturbed=member["disturbed"],
        )


def best(document: dict[str, Any], drop: float) -> float:
    """The greatest speed-up on the front that costs at most ``drop`` of the accuracy."""
    return max((m["speedup"] for m in document["front"] if m["accuracy_drop"] <= drop + 1e-9), default=0.0)


SEARCHES: dict[str, Callable[[Bench, Path], None]] = {
    "digits": demo,
    "resnet20": partial(searched, model="resnet20"),
    "resnet56": partial(searched, model="resnet56"),
    "resnet56-fp32": partial(unquantised, model="resnet56"),
}

if __name__ == "__main__":
    parser = argparse.ArgumentParser(add_help=False)
    quick = "--quick" in sys.argv
    parser.add_argument("--searches", default="digits,resnet20" if quick else ",".join(SEARCHES), help="with commas")
    chosen, sys.argv[1:] = parser.parse_known_args()
    main("The main job", lambda bench: run(bench, chosen.searches.split(",")))
