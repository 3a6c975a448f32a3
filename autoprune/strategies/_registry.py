"""Strategies by name."""

from autoprune.errors import UsageError
from autoprune.strategies._base import Strategy
from autoprune.strategies.samplers import Nsga2, Random, Tpe

STRATEGIES: dict[str, Strategy] = {known.name: known for known in (Tpe(), Nsga2(), Random())}


def strategy(name: str) -> Strategy:
    """The strategy of that name.

    Raises:
        UsageError: no such strategy; lists the known ones.
    """
    if name not in STRATEGIES:
        raise UsageError(f"Unknown strategy '{name}': choose one of {', '.join(STRATEGIES)}.")
    return STRATEGIES[name]
