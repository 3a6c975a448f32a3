"""First-order Taylor saliency."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from autoprune.compress.batches import as_inputs, seeded, take
from autoprune.compress.criteria._units import sum_over_units

if TYPE_CHECKING:
    from torch import Tensor

    from autoprune.graph.model import PrunableGraph
    from autoprune.task import Task


@dataclass(frozen=True)
class Taylor:
    """Mean over batches of ``(sum g * w)^2`` over the unit's slices across all members: the squared first-order change
    of the loss when the unit is set to zero.

    Source: Molchanov et al. 2019, "Importance Estimation for Neural Network Pruning", with the sum taken over the
    coupled slices. Evaluation mode; ``samples`` of the training split in batches of ``batch``.
    """

    name: str = "taylor"
    description: str = "squared first-order change of the loss without the unit, on training batches"
    needs_data: bool = True
    samples: int = 512
    batch: int = 32

    def score(self, graph: PrunableGraph, task: Task, *, seed: int) -> dict[str, Tensor]:
        """See `Criterion.score`. Raises TaskError when the training split is empty."""
        import torch

        model = graph.module().eval()
        parameters = dict(model.named_parameters())
        scores = {group.id: torch.zeros(group.size, dtype=torch.float64) for group in graph.groups}
        with seeded(seed):
            batches = take(task, self.samples, batch=self.batch)
        for inputs, targets in batches:
            loss = task.loss(model(*as_inputs(inputs)), targets)
            gradients = torch.autograd.grad(loss, list(parameters.values()), allow_unused=True)
            changes = {
                name: gradient * weight.detach()
                for (name, weight), gradient in zip(parameters.items(), gradients, strict=True)
                if gradient is not None
            }
            for group in graph.groups:
                scores[group.id] += sum_over_units(group, changes).square() / len(batches)
        return scores


CRITERION = Taylor()
