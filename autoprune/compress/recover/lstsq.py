"""Least-squares reconstruction of the layers whose inputs were cut."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from itertools import dropwhile
from typing import TYPE_CHECKING, Any

from autoprune.errors import StageError

if TYPE_CHECKING:
    from torch import Tensor, nn

    from autoprune.compress.interpret import Interpreter
    from autoprune.compress.layers import Layer
    from autoprune.compress.recover._answers import Answer
    from autoprune.compress.recover._base import Reference
    from autoprune.recipe import Recipe
    from autoprune.task import Task


@dataclass(frozen=True)
class LeastSquares:
    """Refits convolutions (of one group) and linear layers, from the first whose input channels were cut on, so that
    from the cut model's input each answers what the dense one does. The last layer of a residual branch answers for
    the stream too: its target is the dense sum less what the cut model's stream already holds, so that the errors of
    earlier blocks are corrected instead of piling up.

    Layers are taken in topological order; each sees the input that the layers before it, refitted, give. At most
    ``rows`` output positions of ``samples`` training samples (fewer of large ones: ``elements`` input numbers in all)
    make the normal equations, summed in float32 and solved in float64. They are damped towards the weights that the cut
    left by ``damping`` times their mean diagonal. A layer that kept all its inputs is left alone when it has fewer than
    ``rows_per_input`` positions for each weight of an output: a head that sees each sample once would lose accuracy.
    A layer without a bias takes the constant part into the BatchNorm that follows it. No layer's calibration error
    grows: one that would is left as it was. A layer that ends a dropped branch has no input left: where it
    does not add nothing, the constant part, the mean of the dense outputs, is all there is.

    Source: He, Zhang and Sun 2017, "Channel Pruning for Accelerating Very Deep Neural Networks", section 3.1 and what
    it says of residual branches.
    """

    name: str = "lstsq"
    description: str = "refit layers to the dense outputs by least squares"
    samples: int = 256
    rows: int = 8192
    damping: float = 0.3
    rows_per_input: int = 10
    elements: int = 2**22

    def recover(self, model: nn.Module, reference: Reference, task: Task, recipe: Recipe) -> None:
        """See `Recovery.recover`; fails as ``not_finite`` when activations are not."""
        import torch

        from autoprune.compress.interpret import Interpreter
        from autoprune.compress.recover._answers import answers
        from autoprune.compress.recover._dropped import dropped_layers

        pairs, dropped = _layers_from_first_cut(model, reference), dropped_layers(model, reference)
        if not pairs and not dropped:
            return
        passes = reference.passes(task, self.samples, elements=self.elements, seed=recipe.seed)
        wanted = answers(passes, rows=self.rows)
        run = Interpreter(model.eval())
        for layer, dense in pairs:
            rows = reference.rows.get(layer.weight_name)
            run.instead[layer.node] = partial(Fit(layer, dense, wanted.layers[dense.node], rows, self).refit, run)
        with torch.no_grad():
            for ending in dropped:
                ending.hold(wanted.means[ending.dense_node])
            passes.run(run)


def _layers_from_first_cut(model: nn.Module, reference: Reference) -> list[tuple[Layer, Layer]]:
    """The layers of the cut model behind the first one that lost inputs or is gone, each with its dense self."""
    from autoprune.compress.layers import layers_of

    cut = {layer.weight_name: layer for layer in layers_of(model)}
    dense = dropwhile(lambda one: _as_wide(cut.get(one.weight_name), one), layers_of(reference.dense))
    return [(cut[layer.weight_name], layer) for layer in dense if layer.weight_name in cut]


def _as_wide(layer: Layer | None, dense: Layer) -> bool:
    return layer is not None and layer.weight.shape[1] == dense.weight.shape[1]


class Fit:
    """The refit of one layer; `refit` stands in for it in the cut model.

    Args:
        layer: of the cut model.
        dense: its self in the dense model.
        wanted: what that one answers.
        rows: the output units of the dense layer that remain; None when all do.
    """

    def __init__(self, layer: Layer, dense: Layer, wanted: Answer, rows: Tensor | None, method: LeastSquares) -> None:
        self.layer, self.wanted, self.rows, self.method = layer, wanted, rows, method
        self.shape = layer.shape_like(wanted.shape)
        self.places = layer.positions(self.shape, method.rows)
        enough = len(self.places) >= method.rows_per_input * layer.weight[0].numel()
        self.refits = enough or layer.weight.shape[1] < dense.weight.shape[1]

    def refit(self, run: Interpreter, *args: Any) -> Tensor:
        """Refit the cut layer to what is wanted, and answer with the new weights."""
        if not self.refits:
            return self._finite(self.layer.operator(*args))
        x = self.layer.patches(args[0], self.shape, self.places)
        error = self._finite(self._error(run, x, *args[1:3]))
        step, constant = solve(x, error, damping=self.method.damping, centred=self.layer.takes_constant)
        if bool((error - x @ step - constant).square().sum() < error.square().sum()):
            self.layer.add(step.T, constant)
        return self.layer.operator(*args)  # type: ignore[no-any-return]

    def _finite(self, values: Tensor) -> Tensor:
        if not bool(values.isfinite().all()):
            raise StageError(f"Activations at '{self.layer.weight_name}' are not finite.", kind="not_finite")
        return values

    def _error(self, run: Interpreter, x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
        """What the layer's outputs lack, with what the stream beside them lacks: (positions, output units)."""
        from torch.nn import functional

        error = self._kept(self.wanted.outputs) - functional.linear(x, weight.flatten(1), bias)
        stream = self.layer.stream(run.env, self.shape)
        if self.wanted.stream is not None and stream is not None:
            error += self.layer.before_norm(self._kept(self.wanted.stream) - self.layer.outputs(stream, self.places))
        return error

    def _kept(self, outputs: Tensor) -> Tensor:
        return outputs if self.rows is None else outputs[:, self.rows]


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
