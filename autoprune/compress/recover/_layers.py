"""Convolutions and linear layers of an exported graph, seen as one matrix product each."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, fx, nn
from torch.nn import functional

from autoprune.compress.interpret import calls, graph_of, is_call, tensor_name
from autoprune.graph.net import batch_norm

if TYPE_CHECKING:
    from autoprune.compress.recover._base import Reference

ATEN = torch.ops.aten
CONVOLUTIONS = (ATEN.conv1d, ATEN.conv2d, ATEN.conv3d)


@dataclass(frozen=True)
class Layer:
    """One layer of the cut model: ``outputs = patches @ matrix.T + constant``.

    Attributes:
        node, dense_node: names in the cut and in the dense graph.
        operator: what the node calls.
        options: its arguments after the bias.
        weight_name: of the parameter, in both models.
        weight, bias: the cut model's parameters.
        running_mean: of the BatchNorm that takes a constant in place of a bias.
        rows: the dense output units that remain; None when all do.
    """

    node: str
    dense_node: str
    operator: Any
    options: tuple[Any, ...]
    weight_name: str
    weight: nn.Parameter
    bias: nn.Parameter | None
    running_mean: Tensor | None
    rows: Tensor | None

    @property
    def takes_constant(self) -> bool:
        """Whether anything can hold the constant part of a refit."""
        return self.bias is not None or self.running_mean is not None

    def positions(self, y: Tensor, at_most: int) -> Tensor:
        """Which output positions count, of those in ``y`` flattened: the same for outputs of the same shape."""
        total = y.numel() // self._channels(y)
        order = torch.randperm(total, generator=torch.Generator().manual_seed(0))
        return order[:at_most].sort().values

    def outputs(self, y: Tensor, places: Tensor) -> Tensor:
        """The outputs ``y`` at these positions: (positions, output units)."""
        return (y if self.weight.ndim == 2 else y.movedim(1, -1)).flatten(0, -2)[places]

    def patches(self, x: Tensor, y: Tensor, places: Tensor) -> Tensor:
        """What the matrix is multiplied with at these positions of ``y``: (positions, inputs times kernel size)."""
        if self.weight.ndim == 2:
            return x.flatten(0, -2)[places]
        kernel = self.weight.shape[2:]
        stride, padding, dilation = self._geometry(len(kernel))
        x = functional.pad(x, [side for pair in reversed(padding) for side in pair]).contiguous()
        steps = x.stride()
        size = (x.shape[0], *y.shape[2:], x.shape[1], *kernel)
        strides = (
            steps[0],
            *(step * s for step, s in zip(steps[2:], stride, strict=True)),
            steps[1],
            *(step * d for step, d in zip(steps[2:], dilation, strict=True)),
        )
        corners = torch.unravel_index(places, (y.shape[0], *y.shape[2:]))
        return x.as_strided(size, strides)[corners].flatten(1)

    def add(self, matrix: Tensor, constant: Tensor) -> None:
        """Add (output units, inputs times kernel size) to the weight, and a constant to the bias or what stands in."""
        self.weight.add_(matrix.reshape(self.weight.shape))
        if self.bias is not None:
            self.bias.add_(constant)
        elif self.running_mean is not None:
            self.running_mean.sub_(constant)

    def _channels(self, y: Tensor) -> int:
        return y.shape[-1] if self.weight.ndim == 2 else y.shape[1]

    def _geometry(self, dimensions: int) -> tuple[Sequence[int], Sequence[tuple[int, int]], Sequence[int]]:
        """Stride, padding (before, after) and dilation of each spatial dimension."""
        given = (*self.options, *(1, 0, 1)[len(self.options) :])
        stride, dilation = (_spread(value, dimensions) for value in (given[0], given[2]))
        if given[1] == "same":
            totals = [d * (k - 1) for d, k in zip(dilation, self.weight.shape[2:], strict=True)]
            return stride, [(total // 2, total - total // 2) for total in totals], dilation
        padding = _spread(0 if given[1] == "valid" else given[1], dimensions)
        return stride, [(p, p) for p in padding], dilation


def layers_with_cut_inputs(model: nn.Module, reference: Reference) -> list[Layer]:
    """The layers of the cut model that have fewer input channels than in the dense one, in topological order.

    Left out: grouped convolutions, and layers whose weight is computed or used more than once.
    """
    dense = {tensor_name(node.args[1]): node for node in calls(reference.dense, *CONVOLUTIONS, ATEN.linear)}
    shapes = {name: parameter.shape for name, parameter in reference.dense.named_parameters()}
    uses = Counter(tensor_name(used) for node in graph_of(model).nodes for used in node.all_input_nodes)
    layers = []
    for node in calls(model, *CONVOLUTIONS, ATEN.linear):
        name = tensor_name(node.args[1])
        bias = tensor_name(node.args[2]) if len(node.args) > 2 else None
        grouped = len(node.args) > 6 and node.args[6] != 1
        if name is None or name not in dense or uses[name] != 1 or grouped or node.kwargs:
            continue
        if model.get_parameter(name).shape[1] < shapes[name][1]:
            layers.append(_layer(model, node, dense[name], name, bias if uses[bias] == 1 else None, reference))
    return layers


def _layer(model: nn.Module, node: fx.Node, dense: fx.Node, name: str, bias: str | None, reference: Reference) -> Layer:
    mean = _following_mean(node)
    return Layer(
        node=node.name,
        dense_node=dense.name,
        operator=node.target,
        options=tuple(node.args[3:6]),
        weight_name=name,
        weight=model.get_parameter(name),
        bias=model.get_parameter(bias) if bias else None,
        running_mean=model.get_buffer(mean) if mean and not bias else None,
        rows=reference.rows.get(name),
    )


def _following_mean(node: fx.Node) -> str | None:
    """The running mean of the BatchNorm that alone reads this convolution."""
    reader = next(iter(node.users)) if len(node.users) == 1 else node
    follows = is_call(node, *CONVOLUTIONS) and is_call(reader, batch_norm)
    return tensor_name(reader.args[3]) if follows else None


def _spread(value: Any, dimensions: int) -> list[int]:
    values = list(value) if isinstance(value, (list, tuple)) else [value]
    return values * dimensions if len(values) == 1 else values
