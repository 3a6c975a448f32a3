"""From end-to-end observations to what each group saves: Bayesian linear regression with a prior from the arithmetic.

The share that a recipe takes of the latency of the dense model in its precision is modelled as::

    share = 1 + sum over groups of (1 + interplay * (ratio(group) - 1)) * theta(group, units)
            + sum over what is cut together of phi

``theta`` is what the group alone saves. ``ratio`` is how groups that meet in one operator temper each other, as its
cost is a product of widths: the work that this group's cut removes once the groups before it are cut, divided by what
it removes alone. ``interplay``, between 0 and 1, is how much of the latency follows that. Work is multiply-accumulates,
but that kernels compute many channels at a time: of what a width lacks to a multiple of that, a part is paid for all
the same, the ``padding`` between 0 and 1. So narrow widths save less than their channels say, and a width just above a
multiple saves much less than the multiple.
``phi`` is what no arithmetic knows: a smaller model fits the caches better, the more so the smaller it is (a number for
each of two powers of the work that all cuts remove), between two neighbours that are both cut, conversions of layout go
or come, and an operator in which two groups meet may follow their product less or more than others do (one for each
pair); what is prepared for residual branches in a row goes only where none is left to read it (one for each two of
them).

The prior says that a group saves time in proportion to its work, give or take ``RATE_SPREAD`` for the
model and again for each make of group (kind, units, arithmetic), that each width of a make is off that line by
``LEVEL_SPREAD``, which is how a staircase looks, and each group off its make by ``unlike``; observations overrule it.
So a recipe that cuts many groups tells about all of them at once: the error of one group's saving falls with every
recipe that cuts it, as in a weighing design (Hotelling 1944), instead of adding up over the groups.

Recipes that were timed in one round are shares of one measurement of the dense model, and wrong together by what that
one was wrong by (0.2 to 0.8 % on ResNets), which is not to be taken for what their common cuts save. And where other
work fills the caches, the dense model is slower by more than what is left of it: a round in which it took 6 % longer
gave shares that were 3 % lower, on a ResNet-56 cut to a fourth. So shares are those of the middle round, by what the
dense model took; how much the others' are off for that, is learnt with all else. The fastest round is as much a
stranger to what is timed later: where two rounds of thirteen were 6 % faster than the middle one, with it recipes of
ResNet-56 in INT8 were predicted with errors of 0.57 % for 0.34, and those of twelve kept calibrations 0.38 for 0.33.

How much of the dense FP32 model's latency the dense model takes in another precision is a figure of its own,
`dense_share`, since precisions do not slow down alike: on ResNet-56 that of INT8 moved by up to 1 % between two
calibrations of one night, all recipes with it. With it the regression is `Regression.scaled`.

`fit` takes the ``interplay``, the ``padding``, the ``unlike``, how much two ``neighbours`` do together, and the noise
between sessions and between rounds under which the observations are likeliest; the other spreads are those that served
ResNet-20, ResNet-56 and a small CNN best. ResNet-20 in INT8 has neighbours that do much together, in FP32, as ResNet-56
in both, they do little: with the prior of the one, the other's recipes are wrong by a tenth to a fourth more.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from copy import copy
from itertools import product

import numpy as np

from autoprune.latency.arithmetic import POWERS, Arithmetic, Array, Integers, Kept
from autoprune.latency.table import Observation

Z95 = 1.96
RATE_SPREAD = 0.5
LEVEL_SPREAD = 0.2
CURVATURE_SPREAD = 0.1  # of the dense latency, were everything cut; for each power
MEETING_SPREAD = 0.2  # of the dense latency, were it all in operators where the two meet
LEAST_SPREAD = 0.002  # of the dense latency: also a group without arithmetic may save something
UNLIKE = (0.02, 0.1)
NEIGHBOURS = (0.01, 0.05)  # of the dense latency, were the two all of it
INTERPLAYS = (1.0, 0.8, 0.6, 0.4, 0.2, 0.0)
PADDINGS = (0.0, 0.1, 0.2, 0.3, 0.4, 0.6)
NOISES = (0.004, 0.01, 0.02)  # of the share: sessions differ by so much even where one interval is narrower
NOISE = NOISES[0]  # on a quiet machine
BETWEEN = (0.0, 0.002, 0.004, 0.008)  # of the share: rounds differ by so much
MOVES = 0.005  # of the dense share: it differs by so much between the hour of a table and that of its use
UNSURE = 0.5  # of a first guess
CONTENTION = 0.7  # standard deviation: of what the dense model is slower by, so much less is a small part of it


class Regression:
    """The posterior of one precision.

    Args:
        arithmetic: of the model, padded as its cost is.
        dense_share: what the uncut model takes in this precision: 1 where shares are of its own cost.
        unsure: the standard deviation of ``dense_share``, as a share of it.
        interplay, unlike, neighbours: see the module.
    """

    def __init__(
        self,
        arithmetic: Arithmetic,
        dense_share: float,
        *,
        unsure: float = UNSURE,
        interplay: float = 1.0,
        unlike: float = UNLIKE[-1],
        neighbours: float = NEIGHBOURS[-1],
    ) -> None:
        self.arithmetic = arithmetic
        self.interplay = interplay
        self._column = {place: n for n, place in enumerate(arithmetic.places, 1)}
        expected = np.array([arithmetic.alone[place] / arithmetic.dense for place in arithmetic.places]) * dense_share
        (one, other), link = arithmetic.pairs, arithmetic.chained
        side_by_side = neighbours * _both(arithmetic, one, other) * (other == one + 1)
        pairs = np.hypot(side_by_side, MEETING_SPREAD * arithmetic.shared[one, other])
        curves = np.full(len(POWERS), CURVATURE_SPREAD)
        beyond = dense_share * np.concatenate([curves, pairs, neighbours * _both(arithmetic, *link)])
        self.mean: Array = np.concatenate([[dense_share], -expected, np.zeros(len(beyond))])
        self.covariance: Array = np.diag(np.concatenate([[unsure * dense_share], np.zeros(len(expected)), beyond]) ** 2)
        self.covariance[1 : 1 + len(expected), 1 : 1 + len(expected)] = self._prior(expected, unlike)

    def _prior(self, expected: Array, unlike: float) -> Array:
        places, makes = self.arithmetic.places, self.arithmetic.makes
        make, units = (np.array(column) for column in zip(*((makes[g], n) for g, n in places), strict=True))
        alike = make[:, None] == make[None, :]
        level = alike & (units[:, None] == units[None, :])
        scale = np.hypot(expected, LEAST_SPREAD)
        spread = RATE_SPREAD**2 * (1 + alike) + LEVEL_SPREAD**2 * level + unlike**2 * np.eye(len(places))
        found: Array = np.outer(scale, scale) * spread
        return found

    def copy(self) -> Regression:
        """One that learns by itself from here on; what is learnt replaces arrays, it does not change them."""
        return copy(self)

    def scaled(self, dense_share: float, deviation: float) -> Regression:
        """The same in shares of another cost, of which the uncut model takes ``dense_share`` (± ``deviation``)."""
        found = self.copy()
        found.mean = dense_share * self.mean
        found.covariance = dense_share**2 * self.covariance + deviation**2 * np.outer(self.mean, self.mean)
        return found

    def features(self, recipes: Sequence[Kept]) -> Array:
        """(recipes, coefficients): 1, then places, then what is cut together."""
        return self.features_of(self.arithmetic.units(recipes))

    def features_of(self, units: Array) -> Array:
        """The same from the units kept of all groups, (recipes, groups)."""
        alone = np.zeros((len(units), 1 + len(self.arithmetic.places)))
        np.put_along_axis(alone, self.arithmetic.columns(units), self._tempered(units), axis=1)
        alone[:, 0] = 1
        return np.hstack([alone, self.arithmetic.together(units)])

    def expect(self, units: Array) -> Array:
        """The predicted shares alone, from the units kept of all groups, (recipes, groups): (recipes,)."""
        columns = self.arithmetic.columns(units)
        savings = np.where(columns > 0, self._tempered(units) * self.mean[columns], 0.0)
        together = self.arithmetic.together(units) @ self.mean[1 + len(self.arithmetic.places) :]
        found: Array = self.mean[0] + savings.sum(axis=1) + together
        return found

    def _tempered(self, units: Array) -> Array:
        return 1 + self.interplay * (self.arithmetic.ratios(units) - 1)

    def learn(self, features: Array, shares: Array, noise: Array) -> None:
        """Take in observations: features (n, coefficients), shares (n,), the covariance of their errors (n, n)."""
        gain, innovation = self._gain(features, noise)
        self.mean = self.mean + gain @ (shares - features @ self.mean)
        self.covariance = self.covariance - gain @ innovation @ gain.T

    def anticipate(self, features: Array, noise: Array) -> None:
        """Take in that these recipes will be observed: how sure one is afterwards does not depend on what is seen."""
        gain, innovation = self._gain(features, noise)
        self.covariance = self.covariance - gain @ innovation @ gain.T

    def _gain(self, features: Array, noise: Array) -> tuple[Array, Array]:
        innovation = self.uncertainty(features) + noise
        gain: Array = np.linalg.solve(innovation, features @ self.covariance).T.astype(np.float64)
        return gain, innovation

    def uncertainty(self, features: Array) -> Array:
        """The covariance of the shares, without the noise of a measurement: (n, n)."""
        found: Array = features @ self.covariance @ features.T
        return found

    def predict(self, features: Array) -> tuple[Array, Array]:
        """Mean and standard deviation of the shares, without the noise of a measurement: two of (n,)."""
        variance = (features @ self.covariance * features).sum(axis=1)
        return features @ self.mean, np.sqrt(np.maximum(variance, 0.0))

    @property
    def savings(self) -> dict[tuple[str, int], float]:
        """What each group alone saves at each number of units, as shares of the dense FP32 latency."""
        return dict(zip(self.arithmetic.places, (-self.mean[1:]).tolist(), strict=False))

    def saving(self, group: str, units: int) -> tuple[float, float]:
        """What the group alone saves, as a share of the dense FP32 latency, and its standard deviation."""
        n = self._column[group, units]
        return float(-self.mean[n]), float(np.sqrt(max(self.covariance[n, n], 0.0)))


def _both(arithmetic: Arithmetic, one: Integers, other: Integers) -> Array:
    """How much of the work two groups are: the geometric mean of what each removes at most."""
    found: Array = np.sqrt(arithmetic.largest[one] * arithmetic.largest[other])
    return found


def fit(arithmetic: Arithmetic, observations: Sequence[Observation], kept: Sequence[Kept]) -> Regression:
    """The regression of all observations of one precision, in shares of the dense model's latency in that precision.

    ``kept`` are their units.
    """
    low, shares, high = np.array([(one.low, one.share, one.high) for one in observations]).T
    dense_ms = np.array([one.dense_ms for one in observations])  # one of each round
    alike = np.outer(shares, shares) * (dense_ms[:, None] == dense_ms)
    lower = CONTENTION * np.log(dense_ms / np.median(dense_ms)) * shares * (1 - shares)
    disturbed = np.outer(lower, lower)
    noises = [
        measurement_noise(low, shares, high, noise=noise) + between**2 * alike + disturbed
        for noise, between in product(NOISES, BETWEEN)
    ]
    best: tuple[float, Regression, Array] | None = None
    for regressions in _considered(arithmetic):
        features = regressions[0].features(kept)
        for regression in regressions:
            surprise, unsure = shares - features @ regression.mean, regression.uncertainty(features)
            for noise in noises:
                likely = _likelihood(surprise, unsure + noise)
                if best is None or likely > best[0]:
                    best = likely, regression, noise
    assert best is not None
    _, regression, noise = best
    regression.learn(regression.features(kept), shares, noise)
    return regression


def _considered(arithmetic: Arithmetic) -> Iterator[list[Regression]]:
    """Those that `fit` compares, before they have learnt; the features are the same for all of a list."""
    for padding, interplay in product(PADDINGS, INTERPLAYS):
        padded = arithmetic.padded(padding)
        yield [
            Regression(padded, 1.0, unsure=0.0, interplay=interplay, unlike=unlike, neighbours=neighbours)
            for unlike, neighbours in product(UNLIKE, NEIGHBOURS)
        ]


def dense_shares(observations: Iterable[Observation]) -> Array:
    """Of each round, the share of the dense FP32 model's latency that the dense model in this precision took."""
    rounds = dict.fromkeys((one.dense_ms, one.reference_ms) for one in observations)
    return np.array([dense_ms / reference_ms for dense_ms, reference_ms in rounds])


def dense_share(observations: Iterable[Observation]) -> tuple[float, float]:
    """The median of `dense_shares`, 1 in FP32, and its standard deviation where the table is used."""
    shares = dense_shares(observations)
    median = float(np.median(shares))
    if (shares == 1).all():
        return median, 0.0
    spread = float(np.std(shares, ddof=1)) if len(shares) > 1 else 0.0
    return median, float(np.hypot(MOVES * median, spread / np.sqrt(len(shares))))


def _likelihood(surprise: Array, covariance: Array) -> float:
    """Of a surprise that is normal with that covariance, as a logarithm but for a constant."""
    root = np.linalg.cholesky(covariance)
    return float(-0.5 * (np.linalg.solve(root, surprise) ** 2).sum() - np.log(np.diag(root)).sum())


def measurement_noise(low: Array, shares: Array, high: Array, *, noise: float = NOISE) -> Array:
    """The covariance of errors that each share has by itself, of its interval and between sessions: (n, n).

    ``noise``: the standard deviation between sessions, as a share of each.
    """
    found: Array = np.diag(((high - low) / (2 * Z95)) ** 2 + (noise * shares) ** 2)
    return found
