"""How accurate a recipe will be, judged by the error table and by the trials so far."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import product

import numpy as np
import numpy.typing as npt

from autoprune.strategies._box import Box

Array = npt.NDArray[np.float64]
Integers = npt.NDArray[np.int64]

NOISES = (0.001, 0.003)  # of an accuracy, standard deviation: what no neighbour tells, as samples are few
SLOPE, BEND, BEND_REACH = 4.0, 1.0, 0.3  # variances of the trend, and over which part of the depths it bends
REACHES = (0.5, 1.0, 2.0)  # of the residuals, in units of the recipes' median distance
RESIDUALS = (0.02, 0.1, 0.5)  # variance beside the trend's
ALIKE = (0.6, 0.95)  # correlation of residuals for each label that differs


class Forecast:
    """A Gaussian process over recipes: a trend in their depth, and residuals that recipes share the more, the nearer
    they are.

    A recipe is a point: for each group the root of the damage that the cut does alone. Its depth is the point's
    distance from the dense model, the root of the summed damage. A group whose cuts do nothing has no extent there, so
    that few trials tell about many recipes. The residuals' variance, reach and correlation are those under which the
    accuracies are likeliest, of a few; then so is their noise.

    Source: Rasmussen and Williams 2006, "Gaussian Processes for Machine Learning", algorithm 2.1 and section 5.4.

    Args:
        points: (recipes, groups).
        labels: of precision, criterion and recovery: (recipes, labels).
        accuracies: (recipes,).
    """

    def __init__(self, points: Array, labels: Integers, accuracies: Array) -> None:
        self._points, self._labels = points, labels
        self._mean, self._scale = float(accuracies.mean()), max(float(accuracies.std()), NOISES[0])
        self._deepest = max(float(np.linalg.norm(points, axis=1).max()), 1e-6)
        squares = _squares(points, points)
        self._usual = float(np.median(squares[squares > 0])) if (squares > 0).any() else 1.0
        self._targets, self._likeliest = (accuracies - self._mean) / self._scale, -np.inf
        trend, alike = self._trend(points), self._alike(points, labels)
        for shape in product(REACHES, RESIDUALS, ALIKE):
            self._try(shape, trend, alike, noise=NOISES[0])
        for noise in NOISES[1:]:
            self._try(self._shape, trend, alike, noise=noise)

    def _try(
        self,
        shape: tuple[float, float, float],
        trend: Array,
        alike: Mapping[tuple[float, float], Array],
        *,
        noise: float,
    ) -> None:
        """Take it where the accuracies are likelier under it than under what was tried before."""
        from scipy.linalg import solve_triangular

        reach, residual, other = shape
        covariance = trend + residual * alike[reach, other]
        covariance[np.diag_indices_from(covariance)] += (noise / self._scale) ** 2 + 1e-8
        root = np.linalg.cholesky(covariance)
        white = solve_triangular(root, self._targets, lower=True, check_finite=False)
        if (likely := float(-0.5 * white @ white - np.log(np.diag(root)).sum())) > self._likeliest:
            self._likeliest, self._root, self._white, self._shape = likely, root, white, shape

    def predict(self, points: Array, labels: Integers) -> tuple[Array, Array]:
        """Mean and standard deviation of the accuracies: two of (recipes,)."""
        from scipy.linalg import solve_triangular

        reach, residual, other = self._shape
        covariance = self._trend(points) + residual * self._alike(points, labels, [(reach, other)])[reach, other]
        cross = solve_triangular(self._root, covariance.T, lower=True, check_finite=False)
        own = 1 + SLOPE * self._depths(points) ** 2 + BEND + residual
        deviations: Array = self._scale * np.sqrt(np.maximum(own - (cross**2).sum(0), 1e-10))
        return self._mean + self._scale * (self._white @ cross), deviations

    def _depths(self, points: Array) -> Array:
        found: Array = np.linalg.norm(points, axis=1) / self._deepest
        return found

    def _trend(self, points: Array) -> Array:
        """Covariance of the trend between these recipes and those that were tried."""
        one, other = self._depths(points), self._depths(self._points)
        bend = np.exp(-(np.subtract.outer(one, other) ** 2) / (2 * BEND_REACH**2))
        found: Array = 1 + SLOPE * np.outer(one, other) + BEND * bend
        return found

    def _alike(
        self, points: Array, labels: Integers, shapes: Sequence[tuple[float, float]] = tuple(product(REACHES, ALIKE))
    ) -> dict[tuple[float, float], Array]:
        """Correlation of the residuals between these recipes and those that were tried, by reach and `ALIKE`."""
        squares = _squares(points, self._points) / (2 * self._usual)
        differ = sum(np.not_equal.outer(*pair).astype(np.int8) for pair in zip(labels.T, self._labels.T, strict=True))
        near = {reach: np.exp(-squares / reach**2) for reach in {reach for reach, _ in shapes}}
        return {(reach, other): near[reach] * other**differ for reach, other in shapes}


def expected_gain(
    front: Sequence[tuple[float, float]], shares: Array, means: Array, deviations: Array, *, box: Box
) -> Array:
    """By how much the area under the front, within ``box``, is expected to grow: (candidates,).

    Args:
        front: (share, accuracy), ascending.
        shares: of the candidates, taken as certain.
        means, deviations: of their accuracies.

    Source: expected hypervolume improvement (Emmerich, Deutz and Klinkenberg 2011). With one certain objective it is a
    sum of expected improvements (Jones, Schonlau and Welch 1998), one for each step.
    """
    starts, accuracies = np.array([(box.fastest, box.least), *front]).T[:, :, None]
    starts, accuracies = np.clip(starts, box.fastest, box.slowest), np.maximum(accuracies, box.least)
    ends = np.append(starts[1:], [[box.slowest]], axis=0)
    beyond = _improvement(means, deviations, box.most) if np.isfinite(box.most) else 0.0
    widths = np.clip(ends - np.maximum(starts, shares), 0.0, None)
    steps = np.where(accuracies < box.most, widths * (_improvement(means, deviations, accuracies) - beyond), 0.0)
    gain: Array = steps.sum(axis=0)
    return gain


def _improvement(means: Array, deviations: Array, over: Array | float) -> Array:
    """The expectation of how much a normal variable exceeds ``over``, or of nothing where it does not."""
    from scipy.special import ndtr

    z = (means - over) / deviations
    found: Array = deviations * (z * ndtr(z) + np.exp(-0.5 * z**2) / np.sqrt(2 * np.pi))
    return found


def _squares(one: Array, other: Array) -> Array:
    """Squared distances: (ones, others)."""
    found: Array = (one**2).sum(1)[:, None] + (other**2).sum(1) - 2 * one @ other.T
    return np.maximum(found, 0.0)
