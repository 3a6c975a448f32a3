"""How far a model's output is from the dense model's, without labels."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor, nn

    from autoprune.compress import Reference
    from autoprune.task import Task

SAMPLES = 256
ELEMENTS = 2**22  # numbers in the inputs of one forward pass, at most


class Divergence:
    """Compares models with the dense one on the same training samples.

    For outputs with two or more values in their last dimension, taken as logits: the Kullback-Leibler divergence of the
    softmax, in nats, mean over samples. For a single value: the squared error relative to the dense output's variance.

    Args:
        reference: without a cut.
        seed: of the samples; recoveries with that seed see the same.
    """

    def __init__(self, reference: Reference, task: Task, *, seed: int) -> None:
        self._passes = reference.passes(task, SAMPLES, elements=ELEMENTS, seed=seed)
        self.samples = len(self._passes.inputs[0])
        self._dense = self._outputs(reference.dense)

    def of(self, model: nn.Module) -> float:
        """The divergence of ``model``, in evaluation mode; infinite where its output is not finite."""
        found = float(_divergence(self._outputs(model), self._dense))
        return max(found, 0.0) if found == found else float("inf")

    def _outputs(self, model: nn.Module) -> Tensor:
        import torch

        from autoprune.compress.interpret import Interpreter

        with torch.no_grad():
            found: Tensor = self._passes.run(Interpreter(model))
        return found


def _divergence(output: Tensor, dense: Tensor) -> Tensor:
    from torch.nn import functional

    if dense.shape[-1] == 1:
        return (output - dense).square().mean() / dense.var().clamp_min(1e-12)
    log_q, log_p = (functional.log_softmax(logits, dim=-1).flatten(0, -2) for logits in (output, dense))
    return functional.kl_div(log_q, log_p, reduction="batchmean", log_target=True)
