"""From end-to-end observations to what each group saves: Bayesian linear regression with a prior from the arithmetic.

The share of the dense model's latency that a recipe takes is modelled as::

    share = dense_share + sum over groups of (1 + interplay * (ratio(group) - 1)) * theta(group, units)

``theta`` is what the group alone saves. ``ratio`` is how groups that meet in one operator temper each other, as its
cost is a product of widths: the multiply-accumulates that this group's cut removes once the groups before it are cut,
divided by what it removes alone. ``interplay``, between 0 and 1, is how much of the latency follows that arithmetic;
`fit` takes the value under which the observations are likeliest.

The prior says that a group saves time in proportion to its multiply-accumulates, give or take ``RATE_SPREAD`` for the
model and again for each make of group (kind, units, arithmetic), that each width of a make is off that line by
``LEVEL_SPREAD``, which is how a staircase looks, and each group off its make by ``GROUP_SPREAD``; observations overrule
it. So a recipe that cuts many groups tells about all of them at once: the error of one group's saving falls
with every recipe that cuts it, as in a weighing design (Hotelling 1944), instead of adding up over the groups.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from copy import copy
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import numpy.typing as npt

from autoprune.latency.table import Observation

Array = npt.NDArray[np.float64]
Integers = npt.NDArray[np.int64]
Kept = Mapping[str, int]
Z95 = 1.96
RATE_SPREAD = 0.5
LEVEL_SPREAD = 0.3
GROUP_SPREAD = 0.1
LEAST_SPREAD = 0.002  # of the dense latency: also a group without arithmetic may save something
INTERPLAYS = (1.0, 0.9, 0.8, 0.7, 0.6, 0.5, 0.4, 0.2, 0.0)
NOISE = 0.002  # of the share: sessions differ by so much even where one interval is narrower


@dataclass(frozen=True)
class Arithmetic:
    """What a regression needs to know of a model.

    Attributes:
        sizes: group id -> units, in the order of the graph.
        levels: group id -> unit counts that may stay, ascending; only groups with a choice.
        makes: group id -> what groups that cost alike have in common.
        work: from units kept, (recipes, groups) in the order of ``sizes``, to what the cost is expected to follow,
            (recipes,): multiply-accumulates where it is latency.
    """

    sizes: Mapping[str, int]
    levels: Mapping[str, tuple[int, ...]]
    makes: Mapping[str, str]
    work: Callable[[Array], Array]

    @cached_property
    def places(self) -> list[tuple[str, int]]:
        """Group and units of every coefficient."""
        return [(g, n) for g, levels in self.levels.items() for n in levels if n != self.sizes[g]]

    @cached_property
    def dense(self) -> float:
        """Multiply-accumulates of the whole model."""
        return float(self.work(self.units([{}]))[0])

    @cached_property
    def alone(self) -> dict[tuple[str, int], float]:
        """Multiply-accumulates that each place removes by itself."""
        left = self.work(self.units([{group: units} for group, units in self.places]))
        return dict(zip(self.places, (self.dense - left).tolist(), strict=True))

    def units(self, recipes: Sequence[Kept]) -> Array:
        """Units kept of all groups: (recipes, groups)."""
        return np.array(
            [[kept.get(group, size) for group, size in self.sizes.items()] for kept in recipes], dtype=float
        )

    def columns(self, units: Array) -> Integers:
        """Which coefficient each group with levels takes, counted from 1; 0 where it is whole: (recipes, groups)."""
        return self._lookup[np.arange(len(self.levels)), units[:, self._varied].astype(np.int64)]

    def ratios(self, units: Array) -> Array:
        """The ratio of each group with levels, 1 where it is whole: (recipes, groups)."""
        after = np.tile(np.array(list(self.sizes.values()), dtype=float), (len(units), 1))
        lefts = [self.work(after)]
        for column in self._varied:
            after[:, column] = units[:, column]
            lefts.append(self.work(after))
        removed, alone = -np.diff(lefts, axis=0).T, np.array([0.0, *self.alone.values()])[self.columns(units)]
        found: Array = np.divide(removed, alone, out=np.ones_like(removed), where=alone != 0)
        return found

    @cached_property
    def _varied(self) -> list[int]:
        """Columns of the groups with levels among all groups."""
        columns = {group: n for n, group in enumerate(self.sizes)}
        return [columns[group] for group in self.levels]

    @cached_property
    def _lookup(self) -> Integers:
        """(groups with levels, units): the column of the coefficient."""
        found = np.zeros((len(self.levels), 1 + max(self.sizes.values(), default=0)), dtype=np.int64)
        rows = {group: n for n, group in enumerate(self.levels)}
        for column, (group, units) in enumerate(self.places, 1):
            found[rows[group], units] = column
        return found


class Regression:
    """The posterior of one precision.

    Args:
        arithmetic: of the model.
        dense_share: a first guess of the uncut model's share in this precision (1 for FP32).
        interplay: see the module.
    """

    def __init__(self, arithmetic: Arithmetic, dense_share: float, *, interplay: float = 1.0) -> None:
        self.arithmetic = arithmetic
        self.interplay = interplay
        self._column = {place: n for n, place in enumerate(arithmetic.places, 1)}
        expected = np.array([arithmetic.alone[place] / arithmetic.dense for place in arithmetic.places]) * dense_share
        self.mean: Array = np.concatenate([[dense_share], -expected])
        self.covariance: Array = np.zeros((len(self.mean), len(self.mean)))
        self.covariance[0, 0] = (0.5 * dense_share) ** 2
        self.covariance[1:, 1:] = self._prior(expected)

    def _prior(self, expected: Array) -> Array:
        places, makes = self.arithmetic.places, self.arithmetic.makes
        make, units = (np.array(column) for column in zip(*((makes[g], n) for g, n in places), strict=True))
        alike = make[:, None] == make[None, :]
        level = alike & (units[:, None] == units[None, :])
        scale = np.hypot(expected, LEAST_SPREAD)
        spread = RATE_SPREAD**2 * (1 + alike) + LEVEL_SPREAD**2 * level + GROUP_SPREAD**2 * np.eye(len(places))
        found: Array = np.outer(scale, scale) * spread
        return found

    def copy(self) -> Regression:
        """One that learns by itself from here on; what is learnt replaces arrays, it does not change them."""
        return copy(self)

    def features(self, recipes: Sequence[Kept]) -> Array:
        """(recipes, 1 + places)."""
        return self.features_of(self.arithmetic.units(recipes))

    def features_of(self, units: Array) -> Array:
        """The same from the units kept of all groups, (recipes, groups)."""
        found = np.zeros((len(units), len(self.mean)))
        np.put_along_axis(found, self.arithmetic.columns(units), self._tempered(units), axis=1)
        found[:, 0] = 1
        return found

    def expect(self, units: Array) -> Array:
        """The predicted shares alone, from the units kept of all groups, (recipes, groups): (recipes,)."""
        columns = self.arithmetic.columns(units)
        savings = np.where(columns > 0, self._tempered(units) * self.mean[columns], 0.0)
        found: Array = self.mean[0] + savings.sum(axis=1)
        return found

    def _tempered(self, units: Array) -> Array:
        return 1 + self.interplay * (self.arithmetic.ratios(units) - 1)

    def learn(self, features: Array, shares: Array, deviations: Array) -> float:
        """Take in observations: features (n, 1 + places), shares (n,), their standard deviations (n,).

        Returns how likely they were before, as a logarithm.
        """
        gain, innovation = self._gain(features, deviations)
        surprise = shares - features @ self.mean
        self.mean = self.mean + gain @ surprise
        self.covariance = self.covariance - gain @ innovation @ gain.T
        return float(-0.5 * (surprise @ np.linalg.solve(innovation, surprise) + np.linalg.slogdet(innovation)[1]))

    def anticipate(self, features: Array, deviations: Array) -> None:
        """Take in that these recipes will be observed: how sure one is afterwards does not depend on what is seen."""
        gain, innovation = self._gain(features, deviations)
        self.covariance = self.covariance - gain @ innovation @ gain.T

    def _gain(self, features: Array, deviations: Array) -> tuple[Array, Array]:
        innovation = features @ self.covariance @ features.T + np.diag(deviations**2)
        gain: Array = np.linalg.solve(innovation, features @ self.covariance).T.astype(np.float64)
        return gain, innovation

    def predict(self, features: Array) -> tuple[Array, Array]:
        """Mean and standard deviation of the shares, without the noise of a measurement: two of (n,)."""
        variance = (features @ self.covariance * features).sum(axis=1)
        return features @ self.mean, np.sqrt(np.maximum(variance, 0.0))

    def saving(self, group: str, units: int) -> tuple[float, float]:
        """What the group alone saves, as a share of the dense FP32 latency, and its standard deviation."""
        n = self._column[group, units]
        return float(-self.mean[n]), float(np.sqrt(max(self.covariance[n, n], 0.0)))


def fit(arithmetic: Arithmetic, observations: Sequence[Observation], kept: Sequence[Kept]) -> Regression:
    """The regression of all observations of one precision, the dense model's first; ``kept`` are their units."""
    shares, noise = np.array([one.share for one in observations]), deviations(observations)
    best: tuple[float, Regression] | None = None
    for interplay in INTERPLAYS:
        regression = Regression(arithmetic, observations[0].share, interplay=interplay)
        likely = regression.learn(regression.features(kept), shares, noise)
        if best is None or likely > best[0]:
            best = likely, regression
    assert best is not None
    return best[1]


def deviations(observations: Sequence[Observation]) -> Array:
    """Standard deviation of each share: from its interval, but never below what sessions differ by."""
    return np.array([np.hypot((one.high - one.low) / (2 * Z95), NOISE * one.share) for one in observations])
