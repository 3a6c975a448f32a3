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
    """Moves each layer's running statistics by what the cut has changed, in topological order.

    The dense and the cut model see the same ``samples`` training samples (fewer of large ones: ``elements`` input
    numbers in all). The running variance is multiplied by the ratio of the two variances seen, the running mean moved
    by the difference of the two means in units of the standard deviation. Where the dense statistics are those of the
    samples, so are the new ones, as in Li et al. 2020, "EagleEye: Fast Sub-net Evaluation for Efficient Neural Network
    Pruning"; where they are not (little data, other augmentation), the difference is kept, and a model that was not cut
    does not change. Where a dropped branch has left a constant, the mean alone is moved. Everything else (dropout)
    stays as in evaluation; a model without BatchNorm is left alone.
    """

    name: str = "bn"
    description: str = "re-estimate BatchNorm statistics on training samples"
    samples: int = 256
    elements: int = 2**22

    def recover(self, model: nn.Module, reference: Reference, task: Task, recipe: Recipe) -> None:
        """See `Recovery.recover`; fails as ``not_finite`` when activations are not."""
        import torch

        from autoprune.compress.interpret import Interpreter, calls, tensor_name
        from autoprune.compress.silence import endings
        from autoprune.graph.net import batch_norm

        silent = [ending.norm for ending in endings(model) if ending.silent]
        nodes = [node for node in calls(model, batch_norm) if node not in silent]
        if not nodes:
            return
        left = {tensor_name(node.args[3]) for node in nodes}  # a dropped branch takes its layers along
        dense_nodes = [node for node in calls(reference.dense, batch_norm) if tensor_name(node.args[3]) in left]
        samples = min(self.samples, batch_within(task, self.elements, at_least=32))
        with seeded(recipe.seed):
            ((inputs, _),) = take(task, samples, batch=samples)
        pairs = [Pair(_rows_of(node.args[3], reference)) for node in nodes]
        with torch.no_grad():
            observe = {node.name: pair.observe for node, pair in zip(dense_nodes, pairs, strict=True)}
            Interpreter(reference.dense.eval(), observe).run(*as_inputs(inputs))
            correct = {node.name: pair.correct for node, pair in zip(nodes, pairs, strict=True)}
            Interpreter(model.eval(), correct).run(*as_inputs(inputs))


def _rows_of(argument: Any, reference: Reference) -> Tensor | None:
    from autoprune.compress.interpret import tensor_name

    name = tensor_name(argument)
    return reference.rows.get(name) if name else None


class Pair:
    """One layer in both models: `observe` stands in for the dense one, then `correct` for the cut one.

    ``rows`` are the dense channels that remain, None when all do. Both take the arguments of
    ``autoprune.graph.net.batch_norm``.
    """

    def __init__(self, rows: Tensor | None) -> None:
        self.rows = rows
        self.dense: tuple[Tensor, ...] = ()

    def observe(self, x: Tensor, *rest: Any) -> Tensor:
        """Answer like the dense layer; remember its running statistics and the batch's, of the kept channels."""
        _, _, mean, variance, *_ = rest
        statistics = (mean, variance, *_moments(x))
        self.dense = tuple(s.clone() if self.rows is None else s[self.rows] for s in statistics)
        return _normalise(x, *rest)

    def correct(self, x: Tensor, *rest: Any) -> Tensor:
        """Write the new running statistics, and answer with them."""
        from autoprune.errors import StageError

        _, _, mean, variance, _, _, epsilon, _ = rest
        running_mean, running_variance, dense_mean, dense_variance = self.dense
        constant = x.numel() == x.shape[1]  # of a dropped branch: it has a mean only
        new_mean, new_variance = (x.flatten(), dense_variance) if constant else _moments(x)
        if not bool(new_mean.isfinite().all() and new_variance.isfinite().all()):
            raise StageError("Activations before a BatchNorm are not finite.", kind="not_finite")
        unit = ((running_variance + epsilon) / (dense_variance + epsilon)).sqrt()
        mean.copy_(running_mean + (new_mean - dense_mean) * unit)
        variance.copy_(running_variance * (new_variance + epsilon) / (dense_variance + epsilon))
        return _normalise(x, *rest)


def _moments(x: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and unbiased variance of each channel: x (N, channels, ...) -> two of (channels,)."""
    import torch

    mean, variance = x.new_zeros(x.shape[1]), x.new_zeros(x.shape[1])
    torch.batch_norm(x, None, None, mean, variance, True, 1.0, 0.0, False)  # three times faster than torch.var_mean
    return mean, variance


def _normalise(x: Tensor, *rest: Any) -> Tensor:
    from autoprune.graph.net import batch_norm

    weight, bias, mean, variance, _, momentum, epsilon, _ = rest
    return batch_norm(x, weight, bias, mean, variance, False, momentum, epsilon, None)


RECOVERY = BatchNormReestimation()
