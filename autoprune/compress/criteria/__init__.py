"""Saliency criteria: how much the model would lose with each unit. One file per criterion."""

from autoprune.compress.criteria._base import Criterion, criteria, criterion

__all__ = ["Criterion", "criteria", "criterion"]
