"""Layers that lost all their inputs, because the branch that ends in them was dropped."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from autoprune.compress.interpret import graph_of, tensor_name
from autoprune.compress.silence import Ending, endings
from autoprune.errors import StageError

if TYPE_CHECKING:
    from torch import Tensor, fx, nn

    from autoprune.compress.recover._base import Reference


@dataclass(frozen=True)
class DroppedLayer:
    """A layer of the dense model of which the cut model has the bias at most.

    Attributes:
        dense_node: name in the dense graph.
        bias, running_mean: of the cut model, what holds the constant: the bias, or the mean of the BatchNorm behind it.
        rows: the dense output units that remain; None when all do.
    """

    dense_node: str
    bias: Tensor | None
    running_mean: Tensor | None
    rows: Tensor | None

    def hold(self, mean: Tensor) -> None:
        """Make what the dense layer answers on average, (units,), the constant of the cut model."""
        mean = mean if self.rows is None else mean[self.rows]
        if not bool(mean.isfinite().all()):
            raise StageError(f"Activations at '{self.dense_node}' are not finite.", kind="not_finite")
        if self.bias is not None:
            self.bias.copy_(mean)
        elif self.running_mean is not None:
            self.running_mean.sub_(mean)


def dropped_layers(model: nn.Module, reference: Reference) -> list[DroppedLayer]:
    """The layers of the dense model that are a constant in the cut one which a tensor of their own can hold.

    But for those that add nothing, which `autoprune.compress.silence` sees to.
    """
    dense = {tensor_name(node.args[1]): node for node in graph_of(reference.dense).nodes if len(node.args) > 1}
    heard = [ending for ending in endings(model) if not ending.silent]
    found = [_layer(model, ending, dense[str(ending.node.args[2])], reference) for ending in heard]
    return [layer for layer in found if layer.bias is not None or layer.running_mean is not None]


def _layer(model: nn.Module, ending: Ending, dense: fx.Node, reference: Reference) -> DroppedLayer:
    value, _, weight = ending.node.args
    bias, mean = tensor_name(value), tensor_name(ending.norm.args[3]) if ending.norm is not None else None
    parameters = dict(model.named_parameters())
    alone = bias in parameters and len(ending.node.all_input_nodes[0].users) == 1
    return DroppedLayer(
        dense_node=dense.name,
        bias=parameters[str(bias)] if alone else None,
        running_mean=model.get_buffer(mean) if mean and not alone else None,
        rows=reference.rows.get(str(weight)),
    )
