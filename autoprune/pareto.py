"""Fronts beyond the noise of the measurement, hypervolume, goals, and the model to recommend."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Protocol, TypeVar

from pydantic import Field, PositiveFloat

from autoprune.documents import Strict
from autoprune.errors import UsageError
from autoprune.recipe import DENSE, Recipe
from autoprune.records import Score

KEPT = 0.99  # of the dense accuracy, which is what MLPerf Inference asks of a compressed model
USELESS = 0.15  # of the dense accuracy: who loses more than that has a model that nobody wants
NOISY = ("energy_mj", "latency_ms")
TOLERANCE = 1e-9  # a goal is not missed by a rounding error


@dataclass(frozen=True)
class Objective:
    """One thing to optimise; ``unit`` is for people."""

    name: str
    maximize: bool
    unit: str


OBJECTIVES = {
    objective.name: objective
    for objective in (
        Objective("accuracy", True, ""),
        Objective("latency_ms", False, "ms"),
        Objective("size_bytes", False, "bytes"),
        Objective("peak_memory_bytes", False, "bytes"),
        Objective("energy_mj", False, "mJ"),
        Objective("macs", False, "MACs"),
        Objective("parameters", False, "parameters"),
    )
}


class Scored(Protocol):
    """A recipe and its score, if it has one: a `TrialRecord`, a finalist of a report."""

    @property
    def recipe(self) -> Recipe:
        """The candidate."""

    @property
    def score(self) -> Score | None:
        """Its score, or None when it failed."""


C = TypeVar("C", bound=Scored)


def objectives(names: Sequence[str]) -> tuple[Objective, ...]:
    """The objectives of those names.

    Raises:
        UsageError: one is unknown or named twice, or they are not two or three.
    """
    for name in names:
        if name not in OBJECTIVES:
            raise UsageError(f"Unknown objective '{name}': choose two or three of {', '.join(OBJECTIVES)}.")
    if len(set(names)) != len(names) or not 2 <= len(names) <= 3:
        raise UsageError(f"A search needs two or three different objectives, not {', '.join(names) or 'none'}.")
    return tuple(OBJECTIVES[name] for name in names)


def value(score: Score, objective: Objective) -> float:
    """The value of ``objective``, in its unit; but latency is a share of the dense model's.

    That is milliseconds divided by those of the dense model timed beside the candidate (1 / speed-up), so that
    candidates timed an hour apart compare on a machine that drifts.

    Raises:
        UsageError: it was not measured.
    """
    return interval(score, objective)[1]


def interval(score: Score, objective: Objective) -> tuple[float, float, float]:
    """Low, value and high: the 95 % interval of the latency, as shares like `value`, and of the energy; three times the
    value otherwise.

    Accuracy counts as exact: every candidate is scored on the same samples, so differences are paired, and how far they
    hold for other samples is the question that the test split answers.

    Raises:
        UsageError: it was not measured.
    """
    if objective.name == "latency_ms":
        latency, dense_ms = score.latency, score.reference_ms
        return latency.low_ms / dense_ms, latency.median_ms / dense_ms, latency.high_ms / dense_ms
    if objective.name == "energy_mj" and score.energy:
        return score.energy.low_mj, score.energy.total_mj, score.energy.high_mj
    found = getattr(score, objective.name)
    if found is None:
        raise UsageError(f"'{objective.name}' was not measured in this run.")
    return float(found), float(found), float(found)


def dominates(one: Score, other: Score, over: Sequence[Objective]) -> bool:
    """Whether ``one`` is better beyond the noise in an objective, and ``other`` in none.

    Better beyond the noise: the intervals do not touch. What lies within the noise decides nothing, either way.
    """
    return any(_beyond(one, other, by) for by in over) and not any(_beyond(other, one, by) for by in over)


def front(candidates: Iterable[C], over: Sequence[Objective]) -> list[C]:
    """The Pareto front beyond the noise, by latency, then by recipe id.

    Candidates are taken from the best to the worst, exact objectives before the noisy ones, and one joins when no
    member `dominates` it. So no member dominates another, and whoever stays outside is beaten by a member. (Dominance
    between overlapping intervals is not transitive: were outsiders to count too, a chain of near-ties could push a true
    trade-off out.)
    """
    import numpy as np

    exact_first = sorted(over, key=lambda objective: objective.name in NOISY)
    scored = [(candidate, candidate.score) for candidate in candidates if candidate.score]
    ordered = sorted(
        ((_bounds(score, exact_first), candidate.recipe.id, n) for n, (candidate, score) in enumerate(scored)),
        key=lambda entry: ([value for _, value, _ in entry[0]], entry[1]),
    )
    bounds = np.array([entry[0] for entry in ordered]).reshape(len(ordered), len(over), 3)
    low, high = bounds[:, :, 0], bounds[:, :, 2]
    kept, left = [], np.ones(len(ordered), dtype=bool)
    while left.any():
        best = int(left.argmax())
        kept.append(scored[ordered[best][2]])
        # `dominates`, of all that are left at once
        left &= ~((high[best] < low).any(1) & ~(high < low[best]).any(1))
        left[best] = False
    return [member for member, _ in sorted(kept, key=lambda pair: (1 / pair[1].speedup, pair[0].recipe.id))]


def normalised(score: Score, dense: Score, over: Sequence[Objective]) -> tuple[float, ...]:
    """Costs for `hypervolume`, each 0 at best: one minus accuracy, and shares of the dense model's cost.

    With the reference 1 in every objective (accuracy 0, the dense FP32 model's cost) the hypervolume is a share of the
    unit cube that the dense model alone fixes: values of different searches of one model on one device compare.
    """
    return tuple(
        1 - value(score, by) if by.maximize else value(score, by) / max(value(dense, by), TOLERANCE) for by in over
    )


def hypervolume(points: Iterable[Sequence[float]], reference: Sequence[float]) -> float:
    """What ``points`` (all costs) dominate of the box below ``reference``; exact, by slicing along the last cost.

    Source: the sweep of Fonseca, Paquete, Lopez-Ibanez, "An improved dimension-sweep algorithm for the hypervolume
    indicator" (2006), without its data structures.
    """
    inside = sorted({tuple(p) for p in points if all(a < b for a, b in zip(p, reference, strict=True))}, key=_last)
    if len(reference) == 1:
        return reference[0] - inside[0][0] if inside else 0.0
    volume = 0.0
    for n, point in enumerate(inside):
        height = (inside[n + 1][-1] if n + 1 < len(inside) else reference[-1]) - point[-1]
        if height > 0:
            volume += height * hypervolume([p[:-1] for p in inside[: n + 1]], reference[:-1])
    return volume


class Goals(Strict):
    """What the user wants of a model; None is no wish. A drop is in units of the metric: 0.01 is a point."""

    max_accuracy_drop: float | None = Field(default=None, ge=0.0, lt=1.0)
    max_latency_ms: PositiveFloat | None = None
    min_speedup: PositiveFloat | None = None

    def meets(self, score: Score, dense: Score) -> bool:
        """Whether every goal is met."""
        return not self._excess(score, dense)

    def misses(self, score: Score, dense: Score) -> list[str]:
        """The goals that ``score`` misses, each in words with by how much."""
        excess = self._excess(score, dense)
        words = []
        if "max_accuracy_drop" in excess and self.max_accuracy_drop is not None:
            lost, allowed = 100 * (dense.accuracy - score.accuracy), 100 * self.max_accuracy_drop
            words.append(f"loses {lost:.2f} points of accuracy, {lost - allowed:.2f} more than the {allowed:g} allowed")
        if "max_latency_ms" in excess and self.max_latency_ms is not None:
            over = score.latency.median_ms - self.max_latency_ms
            words.append(f"takes {score.latency.median_ms:.4g} ms, {over:.3g} ms more than allowed")
        if "min_speedup" in excess and self.min_speedup is not None:
            words.append(f"is {score.speedup:.2f}x as fast as the dense model, not {self.min_speedup:g}x")
        return words

    def nearest(self, candidates: Sequence[C], dense: Score) -> C:
        """The candidate that misses least: the sum of points of accuracy and per cent of latency and of speed-up."""
        scored = [(candidate, candidate.score) for candidate in candidates if candidate.score]
        return min(scored, key=lambda pair: sum(self._excess(pair[1], dense).values()))[0]

    def _excess(self, score: Score, dense: Score) -> dict[str, float]:
        """By how much each missed goal is missed, in hundredths."""
        over = {}
        if self.max_accuracy_drop is not None:
            over["max_accuracy_drop"] = dense.accuracy - score.accuracy - self.max_accuracy_drop
        if self.max_latency_ms is not None:
            over["max_latency_ms"] = score.latency.median_ms / self.max_latency_ms - 1
        if self.min_speedup is not None:
            over["min_speedup"] = 1 - score.speedup / self.min_speedup
        return {goal: 100 * by for goal, by in over.items() if by > TOLERANCE}


def least_useful(dense: float) -> float:
    """The accuracy below which a model is of no use, from that of the dense model."""
    return dense - USELESS * abs(dense)


def keeps_enough(accuracy: float, dense: float) -> bool:
    """Whether a model stands for the dense one, from the accuracies of both."""
    return accuracy >= dense - (1 - KEPT) * abs(dense) - TOLERANCE


def first_cost(over: Sequence[Objective]) -> Objective:
    """The first objective beside accuracy."""
    return next(by for by in over if not by.maximize)


def best(members: Sequence[C], over: Sequence[Objective], *, goals: Goals, dense: Score) -> C:
    """The model to recommend.

    Of those that meet the goals, the fastest where accuracy is limited, else the most accurate; the `Goals.nearest`
    where none meets them. Without goals, the `cheapest` of the compressed models that keep enough of the accuracy.
    """
    if goals == Goals():
        return cheapest(members, over, dense=dense)
    meeting = [(member, member.score) for member in members if member.score and goals.meets(member.score, dense)]
    if not meeting:
        return goals.nearest(members, dense)
    if goals.max_accuracy_drop is not None:
        return max(meeting, key=lambda pair: (pair[1].speedup, pair[1].accuracy))[0]
    return max(meeting, key=lambda pair: (pair[1].accuracy, pair[1].speedup))[0]


def cheapest(members: Sequence[C], over: Sequence[Objective], *, dense: Score) -> C:
    """Of the compressed models that keep ``KEPT`` of the dense accuracy, the best in the first cost of ``over``.

    Where none keeps that much, the most accurate of those that are of use; the dense model, or what is there, where
    none is.

    Source: MLPerf Inference, whose closed division wants 99 % of the reference model's accuracy, Reddi et al. (2020).
    """
    cost = first_cost(over)
    scored = [(member, member.score) for member in members if member.score]
    compressed = [pair for pair in scored if pair[0].recipe.id != DENSE.id]
    if keeping := [pair for pair in compressed if keeps_enough(pair[1].accuracy, dense.accuracy)]:
        return min(keeping, key=lambda pair: (value(pair[1], cost), -pair[1].accuracy))[0]
    useful = [pair for pair in compressed if pair[1].accuracy >= least_useful(dense.accuracy)]
    return max(useful or scored, key=lambda pair: (pair[1].accuracy, -value(pair[1], cost)))[0]


def _beyond(one: Score, other: Score, objective: Objective) -> bool:
    (low, _, high), (other_low, _, other_high) = interval(one, objective), interval(other, objective)
    return low > other_high if objective.maximize else high < other_low


def _bounds(score: Score, over: Sequence[Objective]) -> list[tuple[float, float, float]]:
    """Low, value and high of each cost."""
    spans = ((by.maximize, interval(score, by)) for by in over)
    return [(-high, -middle, -low) if maximize else (low, middle, high) for maximize, (low, middle, high) in spans]


def _last(point: Sequence[float]) -> float:
    return point[-1]
