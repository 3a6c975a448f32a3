"""How far a model's output is from the dense model's, without labels."""

from __future__ import annotations

from typing import TYPE_CHECKING

from autoprune.compress.batches import as_inputs, batch_within, laid_out, seeded, take

if TYPE_CHECKING:
    from torch import Tensor, nn

    from autoprune.graph.model import PrunableGraph
    from autoprune.task import Task

SAMPLES = 256
ELEMENTS = 2**22  # numbers in the inputs of one forward pass, at most


class Divergence:
    """Compares models with the dense one on the same training samples.

    For outputs with two or more values in their last dimension, taken as logits: the Kullback-Leibler divergence of the
    softmax, in nats, mean over samples. For a single value: the squared error relative to the dense output's variance.
    """

    def __init__(self, graph: PrunableGraph, task: Task) -> None:
        import torch

        self.samples = min(SAMPLES, batch_within(task, ELEMENTS, at_least=32))
        with seeded(0):
            ((inputs, _),) = take(task, self.samples, batch=self.samples)
        dense = graph.module().eval()
        self._inputs = laid_out(dense, as_inputs(inputs))
        self.samples = len(self._inputs[0])
        with torch.no_grad():
            self._dense = dense(*self._inputs)

    def of(self, model: nn.Module) -> float:
        """The divergence of ``model``, in evaluation mode; infinite where its output is not finite."""
        import torch

        with torch.no_grad():
            found = float(_divergence(model(*self._inputs), self._dense))
        return max(found, 0.0) if found == found else float("inf")


def _divergence(output: Tensor, dense: Tensor) -> Tensor:
    from torch.nn import functional

    if dense.shape[-1] == 1:
        return (output - dense).square().mean() / dense.var().clamp_min(1e-12)
    log_q, log_p = (functional.log_softmax(logits, dim=-1).flatten(0, -2) for logits in (output, dense))
    return functional.kl_div(log_q, log_p, reduction="batchmean", log_target=True)
