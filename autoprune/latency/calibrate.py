"""Time recipes until the table predicts well, then time others to see how well."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from itertools import zip_longest
from threading import Lock
from typing import TYPE_CHECKING

import numpy as np

from autoprune.latency.arithmetic import Arithmetic
from autoprune.latency.plan import POOL, informative, scattered, sweeps
from autoprune.latency.regress import Z95, Regression, dense_share, dense_shares, fit
from autoprune.latency.rounds import Round, time_round
from autoprune.latency.table import Bias, Cell, HeldOut, LatencyTable, Observation, PrecisionTable, Purpose
from autoprune.recipe import Keep, Recipe

if TYPE_CHECKING:
    from autoprune.evaluate import Evaluator
    from autoprune.hardware import Precision, TimingPolicy
    from autoprune.latency.store import Store
    from autoprune.space import BoundSpace

Say = Callable[[str], None]
HELD_OUT: Purpose = "held-out"
DRAWS = 4  # for each recipe that is held out, as some of a small space are known already
VAGUE = 50.0  # per cent; from there on a figure says nothing
SETTLE_PERCENT = 10.0  # a wide interval only counts for less in the regression
PAYS = 0.25  # of what the arithmetic that a step removes is worth, at the average rate of its group


@dataclass(frozen=True)
class Effort:
    """How much is measured.

    Attributes:
        tolerance_percent: stop when no recipe's predicted latency is less sure than this (one standard deviation).
        most: joint recipes per precision, even where the tolerance is not reached.
        sweeps: whether to cut one group of every make alone to each of its levels first.
        held_out: recipes per precision that only tell the bias; they are timed twice, so that it is known what a
            measurement is worth.
        together: recipes timed interleaved with the dense model at a time.
        scattered: how many joint recipes of these are drawn from everywhere; the others are those that tell most, which
            are much alike, and would leave the regression blind for what it has no term for.
        blocks, block_ms: of the timing loop: less than for a result, since the regression averages over recipes.
        seed: of the recipes that are drawn.
    """

    tolerance_percent: float = 0.35
    most: int = 100
    sweeps: bool = True
    held_out: int = 20
    together: int = 8
    scattered: int = 3
    blocks: int = 6
    block_ms: float = 15.0
    seed: int = 0


FOR_A_SEARCH = Effort(tolerance_percent=1.5, most=16, sweeps=False, held_out=0, block_ms=6.0)
"""Trials correct the table and tell its bias, so that a search can begin on less."""


@dataclass
class Calibration:
    """The measuring of one model on one device; `run` it.

    ``say`` hears what is done now, ``tell`` once how long it will take.
    """

    evaluator: Evaluator
    space: BoundSpace
    store: Store
    effort: Effort = Effort()
    say: Say = lambda text: None
    tell: Say = lambda text: None
    known: dict[str, Observation] = field(init=False)
    arithmetic: Arithmetic = field(init=False)
    learnt: set[str] = field(init=False, default_factory=set)
    told: bool = field(init=False, default=False)
    _making: Lock = field(init=False, default_factory=Lock)

    def __post_init__(self) -> None:
        self.known = self.store.read()
        self.arithmetic = arithmetic(self.evaluator, self.space)

    def run(self, *, task: str, target: str) -> LatencyTable:
        """Measure what is not known yet, and make the table. Raises StageError where the device does not settle."""
        began = time.monotonic()
        tables = {precision: self._table(precision, found) for precision, found in self.regressions().items()}
        observations = tuple(one for _, one in sorted(self.known.items()))
        return LatencyTable(
            task=task,
            target=target,
            key=self.store.key,
            circumstances=circumstances(self.evaluator, self.policy),
            dense_ms=float(np.median([one.reference_ms for one in observations])),
            tables=tables,
            observations=observations,
            seconds=time.monotonic() - began,
        )

    def _table(self, precision: Precision, regression: Regression) -> PrecisionTable:
        drawn = self._unknown(DRAWS * self.effort.held_out, precision, seed=self.effort.seed)
        held_out = self._observe(drawn[: self.effort.held_out], HELD_OUT, precision)
        return tabulate(regression, held_out, self._learnt_from(precision))

    def _learnt_from(self, precision: Precision) -> list[Observation]:
        """All that the tables learnt from in that precision."""
        known = (self.known[recipe] for recipe in sorted(self.learnt))
        return [one for one in known if one.recipe.precision == precision]

    def _unknown(self, count: int, precision: Precision, *, seed: int | tuple[int, int]) -> list[dict[str, int]]:
        """Of so many that are drawn, the recipes that the table has not learnt from; all, where it has from all."""
        drawn = scattered(self.arithmetic, count, rng=np.random.default_rng(seed))
        by_id = {plain(kept, precision).id: kept for kept in drawn}
        return [kept for recipe, kept in by_id.items() if recipe not in self.learnt] or drawn

    def regressions(self) -> dict[Precision, Regression]:
        """What each precision's latencies follow, as sure as the effort wants it. Raises StageError as `run`.

        The precisions take turns, so that all are of the same minutes: they do not slow down alike when a machine does.
        """
        found: dict[Precision, Regression] = {}
        for turn in zip_longest(*(self._ever_surer(precision) for precision in self.space.precisions)):
            turns = zip(self.space.precisions, turn, strict=True)
            found |= {precision: regression for precision, regression in turns if regression}
        return found

    def _ever_surer(self, precision: Precision) -> Iterator[Regression]:
        """In shares of the dense FP32 model's latency. Whether it is sure enough is asked of a cut model beside a whole
        one in the same precision: no recipe makes it surer what the whole one takes."""
        seen = self._observe([{}], "sweep", precision)
        if self.effort.sweeps:
            seen += self._observe(sweeps(self.arithmetic), "sweep", precision)
        yield (regression := self._fit(seen)).scaled(*dense_share(seen))
        joint = 0
        while joint < self.effort.most:
            pool = self._unknown(POOL, precision, seed=(self.effort.seed + 1, joint))
            recipes, worst = informative(regression, pool, self.effort.together - self.effort.scattered)
            if worst <= (wanted := self.effort.tolerance_percent):
                break
            known = f"sure to {worst:.1f} %" if worst < VAGUE else "hardly known yet"
            self.say(f"latencies in {precision} are {known}, {wanted:g} % is wanted")
            rng = np.random.default_rng((self.effort.seed + 2, joint))
            recipes += scattered(self.arithmetic, self.effort.scattered, rng=rng)
            seen += self._observe(recipes, "joint", precision)
            joint += len(recipes)
            yield (regression := self._fit(seen)).scaled(*dense_share(seen))

    def _fit(self, seen: Sequence[Observation]) -> Regression:
        return fit(self.arithmetic, seen, [kept_units(one.recipe) for one in seen])

    def _observe(self, wanted: Iterable[dict[str, int]], purpose: Purpose, precision: Precision) -> list[Observation]:
        """Observations of these recipes, in their order; times those that are not known."""
        recipes = [plain(kept, precision) for kept in wanted]
        todo = list({recipe.id: recipe for recipe in recipes if recipe.id not in self.known}.values())
        rounds = [todo[start : start + self.effort.together] for start in range(0, len(todo), self.effort.together)]
        left, measured, began = len(todo), self._rounds(rounds, purpose), time.monotonic()
        while left:
            self.say(f"timing recipes in {precision} for the latency table ({purpose}), {left} left")
            for observation in (found := next(measured)):
                self.store.add(observation)
                self.known[observation.recipe.id] = observation
            left -= len(found)
            if len(found) == self.effort.together and not self.told:
                self._estimate((time.monotonic() - began) / len(found) / self.evaluator.device.at_once)
        if purpose != HELD_OUT:
            self.learnt.update(recipe.id for recipe in recipes)
        return [self.known[recipe.id] for recipe in recipes]

    def _rounds(self, rounds: Sequence[Sequence[Recipe]], purpose: Purpose) -> Iterator[list[Observation]]:
        """As many at once as there are devices; each on one of them, beside the dense model."""
        if (at_once := self.evaluator.device.at_once) == 1:
            yield from (self._time(some, purpose) for some in rounds)
            return
        with ThreadPoolExecutor(at_once) as threads:
            yield from threads.map(lambda some: self._time(some, purpose), rounds)

    def _estimate(self, seconds: float) -> None:
        """Say once how long the rest takes, from the seconds that a recipe of the first full round took."""
        self.told = True
        alone = len(sweeps(self.arithmetic)) if self.effort.sweeps else 0
        planned = len(self.space.precisions) * (1 + alone + self.effort.most + self.effort.held_out)
        left = max(planned - len(self.known), 0)
        how = "estimated" if self.evaluator.device.estimates else "measured"
        self.tell(f"The latency table is {how} now: {left} recipes more at most, about {left * seconds:.0f} s.")

    def _time(self, recipes: Sequence[Recipe], purpose: Purpose) -> list[Observation]:
        with self._making:
            artifacts = {recipe.id: self.evaluator.sketch(recipe) for recipe in recipes}
            dense = self.evaluator.dense(recipes[0].precision)
        try:
            timed = time_round(self.evaluator, artifacts, self.policy, dense=dense)
            again = time_round(self.evaluator, artifacts, self.policy, dense=dense) if purpose == HELD_OUT else None
        finally:
            for artifact in artifacts.values():
                artifact.path.unlink(missing_ok=True)
        return [_observation(recipe, purpose, timed, again) for recipe in recipes]

    @property
    def policy(self) -> TimingPolicy:
        """The profile's, shortened to the effort. The sessions of a round share one warm-up: each is renewed anyway."""
        timing = self.evaluator.device.profile.timing
        return timing.patient().model_copy(
            update={
                "warmup_ms": timing.warmup_ms / (self.effort.together + 1),
                "blocks": self.effort.blocks,
                "block_ms": self.effort.block_ms,
                "settle_percent": max(timing.settle_percent, SETTLE_PERCENT),
            }
        )


def _observation(recipe: Recipe, purpose: Purpose, timed: Round, again: Round | None) -> Observation:
    found = timed.timed[recipe.id]
    return Observation(
        recipe=recipe,
        purpose=purpose,
        share=timed.share(recipe.id),
        low=found.low_ms / timed.dense_ms,
        high=found.high_ms / timed.dense_ms,
        latency_ms=found.median_ms,
        dense_ms=timed.dense_ms,
        reference_ms=timed.reference_ms,
        disturbed=found.disturbed,
        again=again.share(recipe.id) if again else None,
    )


def arithmetic(evaluator: Evaluator, space: BoundSpace) -> Arithmetic:
    """Of the evaluator's graph and the levels of ``space``."""
    graph = evaluator.graph
    return Arithmetic(
        sizes={group.id: group.size for group in graph.groups},
        levels=space.levels,
        makes={group.id: f"{group.kind} {group.size} {group.macs} {len(group.members)}" for group in graph.groups},
        work=graph.macs_by_units(),
    )


def plain(kept: dict[str, int], precision: Precision) -> Recipe:
    """The recipe that only has a shape: what is timed for a table has no recovery and no seed."""
    return Recipe(choices={group: Keep(units=units) for group, units in kept.items()}, precision=precision)


def kept_units(recipe: Recipe) -> dict[str, int]:
    """Group id -> units that stay, of the groups that are cut."""
    return {group: keep.units for group, keep in recipe.choices.items()}


def circumstances(evaluator: Evaluator, timing: TimingPolicy) -> dict[str, str]:
    """Device, runtime and timing, in words."""
    device = evaluator.device
    options = device.profile.options
    return {
        **device.facts(),
        "device": device.fingerprint,
        "threads": str(options.threads),
        "batch": str(options.batch),
        "timing": f"{timing.blocks} blocks of {timing.block_ms:g} ms after {timing.warmup_ms:g} ms of warm-up",
    }


def bias(held_out: Sequence[HeldOut], unseen: Sequence[Observation]) -> Bias:
    """How far the predictions are off, and how far two measurements are."""
    from scipy.stats import kendalltau

    measured, predicted = (np.array([getattr(one, name) for one in held_out]) for name in ("measured", "predicted"))
    error = 100 * (predicted / measured - 1)
    return Bias(
        n=len(held_out),
        mape_percent=float(np.abs(error).mean()),
        worst_percent=float(np.abs(error).max()),
        mean_percent=float(error.mean()),
        kendall_tau=float(np.nan_to_num(kendalltau(predicted, measured).statistic)),
        repeat_percent=float(np.mean(apart)) if (apart := [_apart(one) for one in unseen if one.again]) else None,
    )


def _apart(one: Observation) -> float:
    """Per cent between two measurements of one recipe."""
    assert one.again
    return 100 * abs(one.again - one.share) / _measured(one)


def _measured(one: Observation) -> float:
    """The share, by all that is known."""
    return (one.share + one.again) / 2 if one.again else one.share


def tabulate(regression: Regression, unseen: Sequence[Observation], learnt: Sequence[Observation]) -> PrecisionTable:
    """What each group saves alone at each width and whether the width pays; how well ``unseen`` recipes are met.

    ``learnt`` is what the regression is made of.
    """
    whole, rounds = float(regression.mean[0]), dense_shares(learnt)
    predicted = regression.predict(regression.features([kept_units(one.recipe) for one in unseen]))[0] / whole
    held_out = tuple(
        HeldOut(recipe=one.recipe.id, predicted=float(p), measured=_measured(one))
        for one, p in zip(unseen, predicted, strict=True)
    )
    return PrecisionTable(
        dense_share=whole,
        dense_low=float(rounds.min()),
        dense_high=float(rounds.max()),
        cells={group: _cells(regression, group) for group in regression.arithmetic.levels},
        bias=bias(held_out, unseen),
        held_out=held_out,
    )


def _cells(regression: Regression, group: str) -> tuple[Cell, ...]:
    size, alone = regression.arithmetic.sizes[group], regression.arithmetic.padded(0.0).alone
    levels = [units for units in reversed(regression.arithmetic.levels[group]) if units != size]
    row: list[Cell] = []
    most, macs = 0.0, 0.0  # that the wider levels save
    rate = regression.saving(group, levels[-1])[0] / max(alone[group, levels[-1]], 1)
    for units in levels:
        saves, deviation = regression.saving(group, units)
        pays = saves - most > PAYS * rate * (alone[group, units] - macs)
        row.append(Cell(units=units, saves=saves, low=saves - Z95 * deviation, high=saves + Z95 * deviation, pays=pays))
        most, macs = max(most, saves), alone[group, units]
    return tuple(reversed(row))
