"""Least-squares reconstruction of the layers whose inputs were cut."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from autoprune.compress.batches import as_inputs, batch_within, seeded, take
from autoprune.errors import StageError

if TYPE_CHECKING:
    from torch import Tensor, nn

    from autoprune.compress.recover._base import Reference
    from autoprune.compress.recover._layers import Layer
    from autoprune.recipe import Recipe
    from autoprune.task import Task


@dataclass(frozen=True)
class LeastSquares:
    """Refits each convolution (of one group) and linear layer whose input channels were cut, so that from the cut
    model's input it answers what the dense one does.

    Layers are taken in topological order; each sees the input that the layers before it, refitted, give. At most
    ``rows`` output positions of ``samples`` training samples (fewer of large ones: ``elements`` input numbers in all)
    make the normal equations, summed in float32 and solved in float64, damped towards the weights that the cut left by
    ``damping`` times their mean diagonal. A layer without a bias takes the constant part into the BatchNorm that
    follows it. No layer's calibration error grows: one that would is left as it was. A layer that ends a dropped branch
    has no input left: the constant part, the mean of the dense outputs, is all there is.

    Source: He, Zhang and Sun 2017, "Channel Pruning for Accelerating Very Deep Neural Networks", section 3.1.
    """

    name: str = "lstsq"
    description: str = "refit layers with cut inputs to the dense outputs by least squares"
    samples: int = 256
    rows: int = 8192
    damping: float = 1e-3
    elements: int = 2**22

    def recover(self, model: nn.Module, reference: Reference, task: Task, recipe: Recipe) -> None:
        """See `Recovery.recover`; fails as ``not_finite`` when activations are not."""
        import torch

        from autoprune.compress.interpret import Interpreter
        from autoprune.compress.recover._dropped import dropped_layers
        from autoprune.compress.recover._layers import layers_with_cut_inputs

        layers, dropped = layers_with_cut_inputs(model, reference), dropped_layers(model, reference)
        if not layers and not dropped:
            return
        samples = min(self.samples, batch_within(task, self.elements, at_least=32))
        with seeded(recipe.seed):
            ((inputs, _),) = take(task, samples, batch=samples)
        fits = [Fit(layer, self.rows, self.damping) for layer in layers]
        with torch.no_grad():
            observe = {fit.layer.dense_node: fit.observe for fit in fits}
            observe |= {layer.dense_node: layer.observe for layer in dropped}
            Interpreter(reference.dense.eval(), observe).run(*as_inputs(inputs))
            refit = {fit.layer.node: fit.refit for fit in fits}
            Interpreter(model.eval(), refit).run(*as_inputs(inputs))


class Fit:
    """The refit of one layer: `observe` stands in for it in the dense model, then `refit` in the cut one."""

    def __init__(self, layer: Layer, rows: int, damping: float) -> None:
        self.layer = layer
        self.rows = rows
        self.damping = damping
        self.wanted: Tensor | None = None

    def observe(self, *args: Any) -> Tensor:
        """Answer like the dense layer, and remember its outputs."""
        y: Tensor = self.layer.operator(*args)
        outputs = self.layer.outputs(y, self.layer.positions(y, self.rows))
        self.wanted = outputs if self.layer.rows is None else outputs[:, self.layer.rows]
        return y

    def refit(self, *args: Any) -> Tensor:
        """Refit the cut layer to the outputs remembered, and answer with the new weights."""
        y: Tensor = self.layer.operator(*args)
        places = self.layer.positions(y, self.rows)
        assert self.wanted is not None
        error = self.wanted - self.layer.outputs(y, places)
        self.wanted = None
        if not bool(error.isfinite().all()):
            raise StageError(f"Activations at '{self.layer.weight_name}' are not finite.", kind="not_finite")
        x = self.layer.patches(args[0], y, places)
        step, constant = solve(x, error, damping=self.damping, centred=self.layer.takes_constant)
        if not bool((error - x @ step - constant).square().sum() < error.square().sum()):
            return y
        self.layer.add(step.T, constant)
        return self.layer.operator(*args)  # type: ignore[no-any-return]


def solve(x: Tensor, error: Tensor, *, damping: float, centred: bool) -> tuple[Tensor, Tensor]:
    """The step and constant that minimise ``|error - x @ step - constant|^2 + damping * mean(diag(x'x)) * |step|^2``.

    Args:
        x: (rows, inputs).
        error: (rows, outputs).
        damping: relative; the step goes to zero as it grows.
        centred: fit a constant too, which is not damped; else it is zero.

    Returns:
        (inputs, outputs) and (outputs,).
    """
    import torch

    x_mean, error_mean = (
        (x.mean(0), error.mean(0)) if centred else (x.new_zeros(x.shape[1]), error.new_zeros(error.shape[1]))
    )
    x, error = x - x_mean, error - error_mean
    # the sums are most of the work, and float32 halves it; damping is far above their rounding
    gram, moment = (x.T @ x).double(), (x.T @ error).double()
    gram.diagonal().add_(gram.diagonal().mean() * damping)
    factor, info = torch.linalg.cholesky_ex(gram)
    step = torch.linalg.pinv(gram, hermitian=True) @ moment if info else torch.cholesky_solve(moment, factor)
    step = step.to(x.dtype)
    return step, error_mean - x_mean @ step


RECOVERY = LeastSquares()
