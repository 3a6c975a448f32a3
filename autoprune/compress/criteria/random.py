"""The baseline: random ranks."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor

    from autoprune.graph.model import PrunableGraph
    from autoprune.task import Task


@dataclass(frozen=True)
class Random:
    """Uniform in [0, 1), seeded by the recipe's seed and the group's id: independent of which other groups exist."""

    name: str = "random"
    description: str = "random ranks: the baseline that a criterion has to beat"
    needs_data: bool = False

    def score(self, graph: PrunableGraph, task: Task, *, seed: int) -> dict[str, Tensor]:
        """See `Criterion.score`."""
        return {group.id: _ranks(group.id, group.size, seed) for group in graph.groups}


def _ranks(group_id: str, size: int, seed: int) -> Tensor:
    import torch

    digest = hashlib.sha256(f"{seed}:{group_id}".encode()).digest()
    generator = torch.Generator().manual_seed(int.from_bytes(digest[:8], "big") >> 1)
    return torch.rand(size, generator=generator, dtype=torch.float64)


CRITERION = Random()
