"""Multi-objective TPE (Ozaki et al. 2020) over every choice of every group, after a ladder of uniform cuts.

Of a study of more than 256 trials it reads the best and the latest.
"""

import optuna

from autoprune.strategies._ladder import ladder
from autoprune.strategies._sampled import SampledStrategy

STRATEGY = SampledStrategy(
    "tpe",
    "uniform ladder, then multi-objective tree-structured Parzen estimator",
    seeds=ladder,
    make=lambda seed: optuna.samplers.TPESampler(seed=seed, n_startup_trials=10),
)
