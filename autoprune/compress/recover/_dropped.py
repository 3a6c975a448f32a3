"""Layers that lost all their inputs, because the branch that ends in them was dropped."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from autoprune.compress.interpret import calls, graph_of, is_call, tensor_name
from autoprune.errors import StageError
from autoprune.graph.net import batch_norm, constant

if TYPE_CHECKING:
    from torch import Tensor, fx, nn

    from autoprune.compress.recover._base import Reference


@dataclass(frozen=True)
class DroppedLayer:
    """A layer of the dense model of which the cut model has the bias at most.

    Attributes:
        dense_node: name in the dense graph.
        operator: what that node calls.
        bias, running_mean: of the cut model, what holds the constant: the bias, or the mean of the BatchNorm behind it.
        rows: the dense output units that remain; None when all do.
    """

    dense_node: str
    operator: Any
    bias: Tensor | None
    running_mean: Tensor | None
    rows: Tensor | None

    def observe(self, *args: Any) -> Tensor:
        """Answer like the dense layer, and make the mean of its outputs the constant of the cut model."""
        y: Tensor = self.operator(*args)
        channel = y.dim() - args[1].dim() + 1  # behind it a convolution has one dimension for each of its kernel's
        mean = y.movedim(channel, -1).flatten(0, -2).mean(0)
        mean = mean if self.rows is None else mean[self.rows]
        if not bool(mean.isfinite().all()):
            raise StageError(f"Activations at '{self.dense_node}' are not finite.", kind="not_finite")
        if self.bias is not None:
            self.bias.copy_(mean)
        elif self.running_mean is not None:
            self.running_mean.sub_(mean)
        return y


def dropped_layers(model: nn.Module, reference: Reference) -> list[DroppedLayer]:
    """The layers of the dense model that are a constant in the cut one, where a tensor of their own can hold it."""
    dense = {tensor_name(node.args[1]): node for node in graph_of(reference.dense).nodes if len(node.args) > 1}
    found = [_layer(model, node, dense[str(node.args[2])], reference) for node in calls(model, constant)]
    return [layer for layer in found if layer.bias is not None or layer.running_mean is not None]


def _layer(model: nn.Module, node: fx.Node, dense: fx.Node, reference: Reference) -> DroppedLayer:
    value, _, weight = node.args
    bias, mean = tensor_name(value), _following_mean(node)
    parameters = dict(model.named_parameters())
    alone = bias in parameters and len(node.all_input_nodes[0].users) == 1
    return DroppedLayer(
        dense_node=dense.name,
        operator=dense.target,
        bias=parameters[str(bias)] if alone else None,
        running_mean=model.get_buffer(mean) if mean and not alone else None,
        rows=reference.rows.get(str(weight)),
    )


def _following_mean(node: fx.Node) -> str | None:
    """The running mean of the BatchNorm that alone reads this constant."""
    reader = next(iter(node.users)) if len(node.users) == 1 else node
    return tensor_name(reader.args[3]) if is_call(reader, batch_norm) else None
