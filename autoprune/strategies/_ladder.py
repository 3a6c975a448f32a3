"""Uniform cuts: what a person tries by hand."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Sequence

    from autoprune.space import BoundSpace

LADDER = (0.75, 0.5, 0.25, 0.125)
INNER = (0.75, 0.5)


def dense(space: BoundSpace) -> list[dict[str, Any]]:
    """The dense model in each precision: what every search has to beat."""
    return uniform(space, [1.0])


def ladder(space: BoundSpace) -> list[dict[str, Any]]:
    """The dense model in each precision, then uniform cuts in each precision with the first way to recover.

    Of all groups, and of those alone that few layers share: cutting the stream of a residual network costs most.
    """
    return dense(space) + uniform(space, INNER if space.shared else (), whole=space.shared) + uniform(space, LADDER)


def uniform(space: BoundSpace, ratios: Sequence[float], *, whole: frozenset[str] = frozenset()) -> list[dict[str, Any]]:
    """One recipe per ratio and precision that keeps about this much of every group, and all of those in ``whole``."""
    return [
        space.uniform(ratio, precision=precision, whole=whole) for ratio in ratios for precision in space.precisions
    ]
