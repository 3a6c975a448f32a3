"""Which recipe next: one file per strategy."""

from autoprune.strategies._base import Strategy, question_seed
from autoprune.strategies._registry import STRATEGIES, strategy

__all__ = ["STRATEGIES", "Strategy", "question_seed", "strategy"]
