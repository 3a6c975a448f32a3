"""Cut one group at a time, recover, compare with the dense model."""

from __future__ import annotations

import contextlib
import hashlib
import json
import time
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import platformdirs

from autoprune.compress import compress
from autoprune.damage.divergence import Divergence
from autoprune.damage.table import DamageTable
from autoprune.errors import StageError
from autoprune.files import code_digest, write_whole

if TYPE_CHECKING:
    from autoprune.compress import Saliencies
    from autoprune.graph.model import PrunableGraph
    from autoprune.recipe import Recipe
    from autoprune.space import BoundSpace
    from autoprune.task import Task

ROOMS = ("graph", "compress", "damage")  # whose code decides what a cut does to the output
LEAST = 2  # of a group's cuts: with one, searches of ResNet-56 took half as many trials again; with four, no fewer
WORST = 1e3  # stands for an output that is not finite, or a cut that cannot be made


def measure_damage(
    graph: PrunableGraph,
    task: Task,
    space: BoundSpace,
    *,
    saliencies: Saliencies,
    fingerprints: Mapping[str, str],
    most: int | None = None,
    say: Callable[[str], None] = lambda text: None,
    tell: Callable[[str], None] = lambda text: None,
) -> DamageTable:
    """The table of ``space``'s first criterion and first way to recover, those that need no training preferred.

    Where there are more than ``most`` cuts, each group has its share of them measured, ``LEAST`` at least, and the
    damage of the levels between is interpolated. ``say`` hears what is done now, ``tell`` once how long it takes.

    What was measured for the same code, weights and data is read from the user's cache.
    """
    began = time.monotonic()
    criterion = space.space.criterion[0]
    recover = next((how for how in space.space.recover if not how.trains), space.space.recover[0]).label
    known = Known.of(fingerprints)
    divergence = Divergence(saliencies.reference({}), task, seed=space.seed)
    damage: dict[str, dict[int, float]] = defaultdict(dict)
    every = sum(len(levels) - 1 for levels in space.levels.values())
    share = None if most is None or every <= most else max(LEAST, most // len(space.levels))
    cuts = {
        (group, units): space.recipe({group: units}, criterion=criterion, precision="fp32", recover=recover)
        for group, levels in space.levels.items()
        for units in spread([n for n in levels if n != space.sizes[group]], share)
    }
    todo = [recipe for recipe in cuts.values() if recipe.id not in known.values]
    saliencies.warm([criterion] if todo else [], seed=space.seed)  # so that the first cut costs what all others do
    for n, recipe in enumerate(todo):
        say(f"measuring damage, {len(todo) - n} cuts left")
        cut = time.monotonic()
        known.add(recipe.id, _damage(graph, recipe, task, saliencies, divergence))
        if n == 0:
            seconds = (len(todo) - 1) * (time.monotonic() - cut)
            tell(f"The error table is measured now: {len(todo)} cuts, about {seconds:.0f} s.")
    for (group, units), recipe in cuts.items():
        damage[group][units] = known.values[recipe.id]
    return DamageTable(
        criterion=criterion,
        recover=recover,
        samples=divergence.samples,
        damage={name: filled(damage[name], levels, space.sizes[name]) for name, levels in space.levels.items()},
        seconds=time.monotonic() - began,
    )


def spread(levels: Sequence[int], count: int | None) -> list[int]:
    """At most ``count`` of the levels, evenly spread, the lowest among them."""
    if count is None or count >= len(levels):
        return list(levels)
    return [levels[round(n * (len(levels) - 1) / max(count - 1, 1))] for n in range(count)]


def filled(known: Mapping[int, float], levels: Sequence[int], size: int) -> dict[int, float]:
    """The damage of every level, from that of some.

    It grows with a power of the share of units that goes: between two known levels that which joins them, elsewhere the
    square.
    """
    gone = {1 - units / size: max(damage, 1e-12) for units, damage in known.items()}
    xs, ys = np.log(sorted(gone)), np.log([gone[x] for x in sorted(gone)])

    def at(units: int) -> float:
        x = np.log(1 - units / size)
        beyond = 2 * (x - np.clip(x, xs[0], xs[-1]))
        return float(np.exp(np.interp(x, xs, ys) + beyond))

    return {units: known.get(units, 0.0 if units == size else at(units)) for units in levels}


def _damage(graph: PrunableGraph, recipe: Recipe, task: Task, saliencies: Saliencies, divergence: Divergence) -> float:
    try:
        return min(divergence.of(compress(graph, recipe, task=task, saliencies=saliencies)), WORST)
    except StageError:
        return WORST


class Known:
    """Damages by recipe id, in one file that is written anew after every change."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.values: dict[str, float] = {}
        with contextlib.suppress(OSError, ValueError):
            self.values = {str(key): float(value) for key, value in json.loads(path.read_text("utf-8")).items()}

    @classmethod
    def of(cls, fingerprints: Mapping[str, str]) -> Known:
        """The user's cache for this code, these weights and this data; and for autoprune's own code."""
        parts = {key: fingerprints[key] for key in ("code", "weights", "data")} | {"measured_by": code_digest(*ROOMS)}
        name = hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()[:16]
        return cls(platformdirs.user_cache_path("autoprune") / "damage" / f"{name}.json")

    def add(self, recipe: str, damage: float) -> None:
        """Keep it; a cache that cannot be written costs minutes next time."""
        self.values[recipe] = damage
        with contextlib.suppress(OSError):
            write_whole(self.path, json.dumps(self.values).encode())
