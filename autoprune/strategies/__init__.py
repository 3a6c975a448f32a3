"""Which recipe next: one file per strategy."""

from autoprune.strategies._base import Search, Strategy, question_seed, strategies, strategy
from autoprune.strategies._tables import Tables

__all__ = ["Search", "Strategy", "Tables", "question_seed", "strategies", "strategy"]
