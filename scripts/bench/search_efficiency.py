"""How fast each strategy's front grows: hypervolume over evaluations and over seconds, tables included.

Digits, and the CIFAR-10 ResNets where AUTOPRUNE_CIFAR10 names their folder (see ``_models.py``); with closed-form
recovery and without any. The hypervolume is that of (accuracy, measured share of the dense latency) in the box from ten
points below the dense accuracy up to it, and from the dense latency down to none, as a share of the box; an accuracy
above the dense model's counts as the dense model's. Winners picked by noisy timings look faster than they are, and the
more so the more are tried: what was on the front of a search at any time is timed once more afterwards, longer and
beside each other, and hypervolumes are those of what was found then.

What one search has evaluated is not evaluated again for the next: every search is charged with the seconds that the
evaluation took when it was made, and candidates that a search screens by itself with those of its screening. Everything
is kept in ``--out``, so that the benchmark goes on where it was stopped. What whole searches found is kept in
``--results`` too, each with its circumstances: hours of them need not be of one sitting, and seeds can be added.
`guided-within-0.01` is `guided` told that 0.01 of accuracy may be lost: of it and all others the fastest model is
compared that loses no more.
``--validation`` scores all candidates of all searches on so many samples, which makes hours of some days.
"""

import argparse
import json
import sys
import tempfile
import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

from _bench import Bench, main
from _curves import page
from _models import cache_in, scored_on, task_of
from _volumes import PATIENT, WITHIN, Curve, compared, curve, points, rising

from autoprune import engine
from autoprune.devices.steadiness import REFERENCE
from autoprune.engine import Silent
from autoprune.engine.loop import run_trials
from autoprune.engine.prepare import Prepared, prepare
from autoprune.engine.screen import Screening
from autoprune.engine.tables import measure_tables
from autoprune.evaluate import Candidate, Evaluator, Screen
from autoprune.hardware import TimingPolicy
from autoprune.pareto import Goals
from autoprune.recipe import Recipe
from autoprune.records import Success, TrialRecord
from autoprune.strategies import strategies, strategy
from autoprune.study import Ledger, RunDirectory

AGAIN = TimingPolicy(blocks=15, settle_percent=5.0)
TOGETHER = 8
SPACES = {"lstsq": "[{methods: [lstsq]}, {methods: [lstsq, bn]}]", "none": "[{methods: []}]"}
SPACE = """\
name: {name}
description: the default space with one kind of recovery
keep: {{min: 0.125, levels: 8, drop: true}}
criterion: [l2, obs_l2]
recover: {recover}
"""
TARGET = """\
name: brief
description: this machine, timed for a third of the usual time, as thousands of candidates are to be compared
extends: cpu
timing: {warmup_ms: 10, blocks: 7, block_ms: 10, settle_percent: 5}
"""


class Shared(Evaluator):
    """Evaluates each recipe once, whoever asks."""

    folder: Path

    def begin(self, recipe: Recipe, *, screen: Screen | None = None) -> Candidate:
        return Known(self, recipe, screen)


class Known(Candidate):
    """Its record is read where it was evaluated before, and kept where it was not."""

    @property
    def path(self) -> Path:
        assert isinstance(self.evaluator, Shared)
        return self.evaluator.folder / f"{self.recipe.id}.json"

    def make(self) -> None:
        if not self.path.is_file():
            super().make()
        elif self.screen and (given_up := self.screen(self.recipe, None, 0)) is not None:
            self.end(given_up)

    def record(self) -> TrialRecord:
        if self.path.is_file() and not self.ended:
            return TrialRecord.model_validate_json(self.path.read_text(encoding="utf-8"))
        record = super().record()
        if isinstance(record.outcome, Success):
            self.path.write_text(record.model_dump_json(), encoding="utf-8")
        return record


class Setting:
    """One model with one way to recover: what all its searches share."""

    def __init__(self, bench: Bench, model: str, recovery: str, options: argparse.Namespace) -> None:
        self.bench, self.model, self.recovery, self.scratch = bench, model, recovery, options.scratch
        name = "-".join(map(str, filter(None, (model, recovery, options.validation))))
        self.folder, self.results = options.out / name, (options.results or options.out / "results") / name
        for folder in (self.folder / "records", self.results):
            folder.mkdir(parents=True, exist_ok=True)
        space = self.folder / "space.yaml"
        space.write_text(SPACE.format(name=recovery, recover=SPACES[recovery]), encoding="utf-8")
        target = self.folder / "brief.yaml"
        target.write_text(TARGET, encoding="utf-8")
        self.config = engine.configure(**task_of(model), space=str(space), target=str(target))
        self.prepared = scored_on(prepare(self.config, Silent()), options.validation)
        task, graph, device = self.prepared.task, self.prepared.graph, self.prepared.device
        self.evaluator = Shared(task, graph, device, work=Path(tempfile.mkdtemp(dir=self.scratch)))
        self.evaluator.folder = self.folder / "records"
        self.evaluator.saliencies.warm(self.config.space.criterion)  # so that no search pays for what all share

    def run(self, name: str, seed: int, trials: int) -> dict[str, Any]:
        """The points of one search, from where it was run before."""
        path = self.results / f"{name}-{seed}-{trials}.json"
        if not path.is_file():
            with cache_in(self.folder / f"cache-{name.partition(WITHIN)[0]}"):
                found = {**self._search(name, seed, trials), "circumstances": self.bench.circumstances}
            path.write_text(json.dumps(found, separators=(",", ":")) + "\n", encoding="utf-8")
        found = dict(json.loads(path.read_text(encoding="utf-8")))
        if late := [point for point in rising(found["points"]) if "again" not in point]:
            self._time_again(late)
            path.write_text(json.dumps(found, separators=(",", ":")) + "\n", encoding="utf-8")
        return found

    def _search(self, name: str, seed: int, trials: int) -> dict[str, Any]:
        prepared = Prepared(**{**vars(self.prepared), "config": self.config.model_copy(update={"trials": trials})})
        method, _, drop = name.partition(WITHIN)
        goals = Goals(max_accuracy_drop=float(drop)) if drop else Goals()
        began = time.monotonic()
        tables = measure_tables(prepared, self.evaluator, Silent()) if strategy(method).needs_tables else None
        search = strategy(method).begin(prepared.space, seed=seed, tables=tables, goals=goals)
        tables_s = self._tables_s(method, time.monotonic() - began)
        directory = RunDirectory.create(Path(tempfile.mkdtemp(dir=self.scratch)) / "run")
        ledger = Ledger(directory, prepared.objectives, search.suggest)
        screen = Screening(tables, ledger.records) if tables else None
        began = time.monotonic()
        run_trials(prepared, self.evaluator, ledger, Silent(), search=search, screen=screen)
        wall = time.monotonic() - began
        ledger.close()
        self.bench.say(f"{self.model} {self.recovery} {name} {seed}: {len(ledger.order)} recipes, {wall:.0f} s")
        return {"tables_s": tables_s, "points": points([ledger.records[recipe] for recipe in ledger.order])}

    def _time_again(self, points: list[dict[str, Any]]) -> None:
        """Shares as `AGAIN` finds them, some at a time beside the dense model."""
        self.bench.say(f"timing {len(points)} again that were on a front")
        for start in range(0, len(points), TOGETHER):
            some = {point["recipe"]: point for point in points[start : start + TOGETHER]}
            artifacts = {name: self.evaluator.sketch(self._recipe(name)) for name in some}
            timed = self.evaluator.time(artifacts, AGAIN)
            for name, point in some.items():
                point["again"] = round(timed[name].median_ms / timed[REFERENCE].median_ms, 6)

    def _recipe(self, name: str) -> Recipe:
        return TrialRecord.model_validate_json((self.evaluator.folder / f"{name}.json").read_text("utf-8")).recipe

    def _tables_s(self, name: str, seconds: float) -> float:
        """Of the first search; later ones find the tables in the cache, and are charged with them all the same."""
        path = self.folder / f"tables-{name}.txt"
        if not path.is_file():
            path.write_text(str(seconds), encoding="utf-8")
        return float(path.read_text(encoding="utf-8"))


def run(bench: Bench, *, options: argparse.Namespace) -> None:
    with tempfile.TemporaryDirectory() as folder:
        options.scratch, options.out = Path(folder), options.out or Path(folder)
        plots: dict[str, dict[str, list[Curve]]] = {}
        for model in ("digits",) if bench.quick else options.models.split(","):
            for recovery in options.recovery.split(","):
                setting = Setting(bench, model, recovery, options)
                found: dict[str, list[dict[str, Any]]] = {}
                for name, seed, trials in searches(options, quick=bench.quick):
                    found.setdefault(name, []).append(setting.run(name, seed, trials))
                compared(bench, model, recovery, found)
                plots[f"{model}, {recovery}"] = {name: [*map(curve, several)] for name, several in found.items()}
        if options.plot:
            options.plot.write_text(page(plots), encoding="utf-8")


def searches(options: argparse.Namespace, *, quick: bool) -> Iterator[tuple[str, int, int]]:
    """Strategy, seed, evaluations; one seed of all before the next, so that what is stopped early compares."""
    for seed in range(1 if quick else options.seeds):
        for name in options.strategies.split(","):
            if name not in PATIENT:
                yield name, seed, 10 if quick else options.trials
            elif quick or seed < options.patient_seeds:
                yield name, seed, 10 if quick else options.trials * options.patience


def arguments() -> argparse.Namespace:
    """Those that only this benchmark has; they leave ``sys.argv``."""
    parser = argparse.ArgumentParser(add_help=False)
    known = sorted({one.name for one in strategies()} - {"guided"})
    parser.add_argument("--models", default="digits,resnet20,resnet56")
    parser.add_argument("--recovery", default="lstsq,none")
    parser.add_argument("--strategies", default=",".join(["guided", f"guided{WITHIN}0.01", *known]))
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--trials", type=int, default=60, help="evaluations in full of each search")
    parser.add_argument("--patience", type=int, default=10, help="how many times as many tpe and nsga2 get")
    parser.add_argument("--patient-seeds", type=int, default=3, help="how many seeds these get, at most")
    parser.add_argument("--validation", type=int, help="samples that score a candidate; all of the task's by default")
    parser.add_argument("--out", type=Path, help="keep everything there, and go on from what is there")
    parser.add_argument("--results", type=Path, help="keep what whole searches found there")
    parser.add_argument("--plot", type=Path, help="write a page with the curves there")
    found, sys.argv[1:] = parser.parse_known_args()
    return found


if __name__ == "__main__":
    main("Search efficiency", partial(run, options=arguments()))
