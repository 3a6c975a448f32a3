"""Least-squares reconstruction of the layers whose inputs were cut."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from itertools import dropwhile
from typing import TYPE_CHECKING, Any

from autoprune.compress.batches import as_inputs, batch_within, seeded, take
from autoprune.errors import StageError

if TYPE_CHECKING:
    from torch import Tensor, nn

    from autoprune.compress.interpret import Interpreter
    from autoprune.compress.layers import Layer
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
        from autoprune.compress.recover._dropped import dropped_layers

        fits = [Fit(*pair, reference, self) for pair in _layers_from_first_cut(model, reference)]
        dropped = dropped_layers(model, reference)
        if not fits and not dropped:
            return
        samples = min(self.samples, batch_within(task, self.elements, at_least=32))
        with seeded(recipe.seed):
            ((inputs, _),) = take(task, samples, batch=samples)
        observing, refitting = Interpreter(reference.dense.eval()), Interpreter(model.eval())
        observing.instead.update({layer.dense_node: layer.observe for layer in dropped})
        for fit in fits:
            observing.instead[fit.dense.node] = partial(fit.observe, observing)
            refitting.instead[fit.layer.node] = partial(fit.refit, refitting)
        with torch.no_grad():
            observing.run(*as_inputs(inputs))
            refitting.run(*as_inputs(inputs))


def _layers_from_first_cut(model: nn.Module, reference: Reference) -> list[tuple[Layer, Layer]]:
    """The layers of the cut model behind the first one that lost inputs or is gone, each with its dense self."""
    from autoprune.compress.layers import layers_of

    cut = {layer.weight_name: layer for layer in layers_of(model)}
    dense = dropwhile(lambda one: _as_wide(cut.get(one.weight_name), one), layers_of(reference.dense))
    return [(cut[layer.weight_name], layer) for layer in dense if layer.weight_name in cut]


def _as_wide(layer: Layer | None, dense: Layer) -> bool:
    return layer is not None and layer.weight.shape[1] == dense.weight.shape[1]


class Fit:
    """The refit of one layer: `observe` stands in for it in the dense model, then `refit` in the cut one."""

    def __init__(self, layer: Layer, dense: Layer, reference: Reference, method: LeastSquares) -> None:
        self.layer = layer
        self.dense = dense
        self.kept = reference.rows.get(layer.weight_name)
        self.whole = layer.weight.shape[1] == dense.weight.shape[1]
        self.method = method
        self.wanted: Tensor | None = None
        self.stream: Tensor | None = None

    def observe(self, run: Interpreter, *args: Any) -> Tensor:
        """Answer like the dense layer, and remember its outputs and the stream beside them."""
        y: Tensor = self.dense.operator(*args)
        places = self.dense.positions(y, self.method.rows)
        self.wanted = self._kept(self.dense.outputs(y, places))
        if (stream := self.dense.stream(run.env, y)) is not None:
            self.stream = self._kept(self.dense.outputs(stream, places))
        return y

    def refit(self, run: Interpreter, *args: Any) -> Tensor:
        """Refit the cut layer to what was remembered, and answer with the new weights."""
        y: Tensor = self.layer.operator(*args)
        places = self.layer.positions(y, self.method.rows)
        error = self._error(run, y, places)
        if not bool(error.isfinite().all()):
            raise StageError(f"Activations at '{self.layer.weight_name}' are not finite.", kind="not_finite")
        if self.whole and len(places) < self.method.rows_per_input * self.layer.weight[0].numel():
            return y
        x = self.layer.patches(args[0], y, places)
        step, constant = solve(x, error, damping=self.method.damping, centred=self.layer.takes_constant)
        if not bool((error - x @ step - constant).square().sum() < error.square().sum()):
            return y
        self.layer.add(step.T, constant)
        return self.layer.operator(*args)  # type: ignore[no-any-return]

    def _error(self, run: Interpreter, y: Tensor, places: Tensor) -> Tensor:
        """What the layer's outputs lack, with what the stream beside them lacks: (positions, output units)."""
        assert self.wanted is not None
        error = self.wanted - self.layer.outputs(y, places)
        stream = self.layer.stream(run.env, y)
        if self.stream is not None and stream is not None:
            error += self.layer.before_norm(self.stream - self.layer.outputs(stream, places))
        self.wanted = self.stream = None
        return error

    def _kept(self, outputs: Tensor) -> Tensor:
        return outputs if self.kept is None else outputs[:, self.kept]


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
