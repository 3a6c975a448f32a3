"""What can be cut, as plain data: the result of the coupling analysis, free of torch."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Slice:
    """The part of one tensor that belongs to a group: ``index[u]`` are unit u's positions along ``dim``."""

    parameter: str
    dim: int
    index: tuple[tuple[int, ...], ...]


@dataclass(frozen=True)
class PruneGroup:
    """Interchangeable units, each of which is removed from all ``members`` together or not at all.

    ``macs`` are the multiply-accumulates (batch 1) of the operators that shrink with the group. ``exact`` says that
    removing a unit equals zeroing it; where False (a LayerNorm or softmax runs over the units) the arithmetic changes.
    ``droppable`` says that no unit need stay: without them a residual branch adds the same to every sample.
    """

    id: str
    kind: str
    size: int
    members: tuple[Slice, ...]
    macs: int
    exact: bool
    droppable: bool = False


@dataclass(frozen=True)
class Blocked:
    """An operator that keeps dimensions from being cut: which one, where in the user's model, and why."""

    operator: str
    node: str
    where: str
    reason: str


@dataclass(frozen=True)
class Proof:
    """Evidence that one group can be cut or dropped: half or all of it was, and the result ran.

    ``error`` is the largest deviation from the zeroed dense model relative to its largest output, None where the
    arithmetic is inexact; ``failure`` is None or one sentence.
    """

    group: str
    error: float | None
    failure: str | None

    @property
    def holds(self) -> bool:
        return self.failure is None
