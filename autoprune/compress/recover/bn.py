"""Re-estimation of BatchNorm statistics."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from autoprune.compress.batches import as_inputs, batch_within, seeded, take

if TYPE_CHECKING:
    from torch import Tensor, nn

    from autoprune.compress.recover._base import Reference
    from autoprune.recipe import Recipe
    from autoprune.task import Task


@dataclass(frozen=True)
class BatchNormReestimation:
    """Running means and variances of the cut model's own activations, pooled over ``samples`` training samples.

    While it runs, each layer normalises with the statistics of the batch; everything else (dropout) stays as in
    evaluation. Batches hold about ``elements`` input numbers, so that small images fit in a single one and the
    statistics of every layer are exact. A model without BatchNorm is left alone.

    Source: Li et al. 2020, "EagleEye: Fast Sub-net Evaluation for Efficient Neural Network Pruning".
    """

    name: str = "bn"
    description: str = "re-estimate BatchNorm statistics on training samples"
    samples: int = 512
    elements: int = 2**21

    def recover(self, model: nn.Module, reference: Reference, task: Task, recipe: Recipe) -> None:
        """See `Recovery.recover`."""
        import torch

        from autoprune.compress.interpret import Interpreter, calls, tensor_name
        from autoprune.graph.net import batch_norm

        pools: dict[str, Pool] = {}
        instead = {}
        for node in calls(model, batch_norm):
            mean, variance = tensor_name(node.args[3]), tensor_name(node.args[4])
            if mean is not None and variance is not None:
                pool = pools.setdefault(mean, Pool(model.get_buffer(mean), model.get_buffer(variance)))
                instead[node.name] = pool.normalise
        if not instead:
            return
        with seeded(recipe.seed):
            batches = take(task, self.samples, batch=batch_within(task, self.elements, at_least=32))
        with torch.no_grad():
            for inputs, _ in batches:
                Interpreter(model.eval(), instead).run(*as_inputs(inputs))
            for pool in pools.values():
                pool.store()


class Pool:
    """Sums of one BatchNorm layer over batches, in float64 (channels,)."""

    def __init__(self, mean: Tensor, variance: Tensor) -> None:
        self.running = mean, variance
        self.count = 0
        self.sum = mean.new_zeros(mean.shape).double()
        self.squares = mean.new_zeros(mean.shape).double()

    def normalise(self, x: Tensor, weight: Tensor | None, bias: Tensor | None, *rest: Any) -> Tensor:
        """What the layer answers in training, remembering the batch's statistics."""
        import torch
        from torch.nn import functional

        mean, variance = (torch.zeros_like(statistic) for statistic in self.running)
        _, _, _, _, epsilon, _ = rest
        count = x.numel() // x.shape[1]
        y = functional.batch_norm(x, mean, variance, weight, bias, training=True, momentum=1.0, eps=epsilon)
        self.count += count
        self.sum += mean.double() * count
        self.squares += variance.double() * (count - 1) + mean.double().square() * count
        return y

    def store(self) -> None:
        """Write the pooled mean and the unbiased variance into the layer."""
        mean = self.sum / self.count
        variance = (self.squares / self.count - mean.square()).clamp(min=0) * (self.count / max(1, self.count - 1))
        self.running[0].copy_(mean)
        self.running[1].copy_(variance)


RECOVERY = BatchNormReestimation()
