"""Re-estimation of BatchNorm statistics."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from torch import Tensor, nn

    from autoprune.compress.passes import Passes
    from autoprune.compress.recover._base import Reference
    from autoprune.recipe import Recipe
    from autoprune.task import Task

    Statistics = tuple[Tensor, Tensor, Tensor, Tensor]


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
        passes = reference.passes(task, self.samples, elements=self.elements, seed=recipe.seed)
        seen = _statistics(passes)
        corrected = {
            node.name: partial(correct, _kept(seen[dense.name], _rows_of(node.args[3], reference)))
            for node, dense in zip(nodes, dense_nodes, strict=True)
        }
        with torch.no_grad():
            Interpreter(model.eval(), corrected).run(*passes.inputs)


def _rows_of(argument: Any, reference: Reference) -> Tensor | None:
    from autoprune.compress.interpret import tensor_name

    name = tensor_name(argument)
    return reference.rows.get(name) if name else None


def _statistics(passes: Passes) -> dict[str, Statistics]:
    """Of each BatchNorm of the dense model, by node, what it runs on and what it meets.

    Means and variances, each (channels,): running mean, running variance, mean, variance. Kept for the next candidate.
    """
    import torch

    from autoprune.compress.interpret import Interpreter, calls
    from autoprune.graph.net import batch_norm

    key = "statistics"
    if key not in passes.seen:
        found: dict[str, Statistics] = {}
        nodes = calls(passes.dense, batch_norm)
        with torch.no_grad():
            observed = {node.name: partial(observe, found, node.name) for node in nodes}
            Interpreter(passes.dense.eval(), observed).run(*passes.inputs)
        passes.seen[key] = found
    return dict(passes.seen[key])


def observe(found: dict[str, Statistics], node: str, x: Tensor, *rest: Any) -> Tensor:
    """Answer like the dense layer, ``autoprune.graph.net.batch_norm``, and note its statistics."""
    _, _, mean, variance, *_ = rest
    found[node] = (mean.clone(), variance.clone(), *_moments(x))
    return _normalise(x, *rest)


def _kept(statistics: Statistics, rows: Tensor | None) -> Statistics:
    """Those of the dense channels that remain, all where ``rows`` is None."""
    first, second, third, fourth = (one if rows is None else one[rows] for one in statistics)
    return first, second, third, fourth


def correct(dense: Statistics, x: Tensor, *rest: Any) -> Tensor:
    """Write the new running statistics of the cut layer, and answer with them."""
    from autoprune.errors import StageError

    _, _, mean, variance, _, _, epsilon, _ = rest
    running_mean, running_variance, dense_mean, dense_variance = dense
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
