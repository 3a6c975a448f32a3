"""NSGA-II (Deb et al. 2002) over every choice of every group, after a ladder of uniform cuts.

Of a study of more than 256 trials it reads the best and the latest.
"""

import optuna

from autoprune.strategies._ladder import ladder
from autoprune.strategies._sampled import SampledStrategy

STRATEGY = SampledStrategy(
    "nsga2",
    "uniform ladder, then the genetic algorithm NSGA-II",
    seeds=ladder,
    make=lambda seed: optuna.samplers.NSGAIISampler(seed=seed, population_size=16),
)
