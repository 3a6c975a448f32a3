"""The dense model in each precision, then uniformly random recipes."""

import optuna

from autoprune.strategies._ladder import dense
from autoprune.strategies._sampled import SampledStrategy

STRATEGY = SampledStrategy(
    "random",
    "uniformly random recipes; the baseline of every comparison",
    seeds=dense,
    make=lambda seed: optuna.samplers.RandomSampler(seed=seed),
)
