"""Which recipes to time next: those that tell most about the latencies that a search will ask for."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from autoprune.latency.arithmetic import Arithmetic
from autoprune.latency.regress import NOISE, Regression

POOL = 128  # random recipes that stand for all that a search may ask for
LEAST = 0.05  # share of the dense latency below which errors do not count for more
Kept = dict[str, int]


def sweeps(arithmetic: Arithmetic) -> list[Kept]:
    """One group of every make, cut alone to each of its levels: where the staircase shows."""
    first: dict[str, str] = {}
    for group in arithmetic.levels:
        first.setdefault(arithmetic.makes[group], group)
    chosen = set(first.values())
    return [{group: units} for group, units in arithmetic.places if group in chosen]


def scattered(arithmetic: Arithmetic, count: int, *, rng: np.random.Generator) -> list[Kept]:
    """Random recipes of all sizes, each cut about as much everywhere, as the good ones of a search are."""
    return [_scattered(arithmetic.levels, arithmetic.sizes, rng) for _ in range(count)]


def _scattered(levels: Mapping[str, tuple[int, ...]], sizes: Mapping[str, int], rng: np.random.Generator) -> Kept:
    centre, spread = rng.uniform(0.1, 1.0), rng.uniform(0.05, 0.5)
    kept: Kept = {}
    for group, known in levels.items():
        wanted = sizes[group] * np.clip(rng.normal(centre, spread), 0, 1)
        kept[group] = min(known, key=lambda units: abs(units - wanted))
    return {group: units for group, units in kept.items() if units != sizes[group]}


def informative(regression: Regression, pool: Sequence[Kept], count: int) -> tuple[list[Kept], float]:
    """The ``count`` recipes of ``pool`` to time next, and how unsure the predictions are at worst before.

    One after another the recipe whose share is least sure, given that those before it will be timed. The second value
    is the largest standard deviation of a predicted share over the pool, in per cent of that share.
    """
    features = regression.features(pool)
    means, unsure = regression.predict(features)
    scale = np.maximum(means, LEAST)
    worst = 100 * float((unsure / scale).max())
    ahead = regression.copy()
    chosen: list[int] = []
    for _ in range(min(count, len(pool))):
        relative = ahead.predict(features)[1] / scale
        relative[chosen] = -1.0
        chosen.append(int(relative.argmax()))
        ahead.anticipate(features[chosen[-1:]], np.diag((NOISE * means[chosen[-1:]]) ** 2))
    return [pool[n] for n in chosen], worst
