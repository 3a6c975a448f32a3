"""What counts in a search: the part of accuracy and latency that its goals ask for."""

from __future__ import annotations

from dataclasses import dataclass

from autoprune.pareto import Goals, least_useful

CLOSE = 0.01  # of the dense accuracy: how far beside an accuracy goal models count at least
FASTER = 0.1  # of a latency goal: from how much below it on being faster still counts for nothing


@dataclass(frozen=True)
class Box:
    """Accuracies from ``least`` to ``most``, and shares of the dense model's latency from ``fastest`` to ``slowest``.

    What is better than that in one of them counts as the edge, what is worse counts for nothing.
    """

    least: float = 0.0
    most: float = float("inf")
    fastest: float = 0.0
    slowest: float = 1.0

    @property
    def for_speed(self) -> bool:
        """Whether a speed is asked for, and nothing else."""
        return self.fastest > 0

    @classmethod
    def of(cls, goals: Goals, *, dense: float, dense_ms: float) -> Box:
        """Where the model that meets ``goals`` will be, and what it needs beside it.

        With an accuracy goal that is on both sides of it: a model just above the goal on the validation split may be
        below it on the test split. With speed goals alone it is what is fast enough, but hardly faster. Without goals
        it is all that is of use and faster than the dense model.

        Args:
            dense: its accuracy.
            dense_ms: the latency of the dense FP32 model.
        """
        least, most, fastest, slowest = least_useful(dense), dense, 0.0, _slowest(goals, dense_ms)
        if (drop := goals.max_accuracy_drop) is not None:
            beside = max(drop / 2, CLOSE * abs(dense))
            least, most = dense - drop - beside, min(dense, dense - drop + beside)
        elif slowest < 1:
            fastest = slowest * (1 - FASTER)
        return cls(least, most, fastest, slowest)


def _slowest(goals: Goals, dense_ms: float) -> float:
    shares = [1.0]
    if goals.min_speedup is not None:
        shares.append(1 / goals.min_speedup)
    if goals.max_latency_ms is not None:
        shares.append(goals.max_latency_ms / dense_ms)
    return min(shares)
