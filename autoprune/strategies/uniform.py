"""The same ratio everywhere, finely spaced, of all groups and of those alone that few layers share; then random.

What users of a pruning library do with a loop over ratios.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import optuna

from autoprune.strategies._ladder import dense, ladder, uniform
from autoprune.strategies._sampled import SampledStrategy

if TYPE_CHECKING:
    from autoprune.space import BoundSpace

RATIOS = 24


def seeds(space: BoundSpace) -> list[dict[str, Any]]:
    """The uniform cuts, each once."""
    found = [*dense(space), *ladder(space)]
    for ratio in np.linspace(1.0, space.space.keep.min, RATIOS + 1)[1:].tolist():
        found += uniform(space, [ratio], whole=space.shared) if space.shared else []
        found += uniform(space, [ratio])
    return list({tuple(sorted(answers.items())): answers for answers in found}.values())


STRATEGY = SampledStrategy(
    "uniform",
    "the same keep ratio in every group; what a loop over ratios does",
    seeds=seeds,
    make=lambda seed: optuna.samplers.RandomSampler(seed=seed),
)
