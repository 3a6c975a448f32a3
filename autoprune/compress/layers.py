"""Convolutions and linear layers of a captured graph, seen as one matrix product each."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import torch
from torch import Tensor, fx, nn
from torch.nn import functional

from autoprune.compress.interpret import calls, graph_of, is_call, tensor_name
from autoprune.graph.net import batch_norm

ATEN = torch.ops.aten
CONVOLUTIONS = (ATEN.conv1d, ATEN.conv2d, ATEN.conv3d)


@dataclass(frozen=True)
class Layer:
    """One layer of a model: ``outputs = patches @ matrix.T + constant``, where the matrix is ``weight.flatten(1)``.

    Attributes:
        node: its name in the graph.
        operator: what the node calls.
        options: its arguments after the bias.
        weight_name: of the parameter.
        weight, bias: the parameters.
        norm: the BatchNorm that alone reads it.
        beside: the node that is added to its output (normalised), a residual stream, when it is computed before it.
    """

    node: str
    operator: Any
    options: tuple[Any, ...]
    weight_name: str
    weight: nn.Parameter
    bias: nn.Parameter | None
    norm: Norm | None
    beside: fx.Node | None

    @property
    def takes_constant(self) -> bool:
        """Whether anything can hold the constant part of a refit."""
        return self.bias is not None or self.norm is not None

    def shape_like(self, dense: Sequence[int]) -> tuple[int, ...]:
        """The shape of its outputs, where ``dense`` is that of the layer that it was cut from."""
        units, channel = len(self.weight), len(dense) - 1 if self.weight.ndim == 2 else 1
        return (*dense[:channel], units, *dense[channel + 1 :])

    def positions(self, shape: Sequence[int], at_most: int) -> Tensor:
        """Which output positions count, of all in outputs of that shape, flattened: always the same."""
        return _positions(math.prod(shape) // len(self.weight), at_most)

    def outputs(self, y: Tensor, places: Tensor) -> Tensor:
        """The outputs ``y`` at these positions: (positions, output units)."""
        return (y if self.weight.ndim == 2 else y.movedim(1, -1)).flatten(0, -2)[places]

    def patches(self, x: Tensor, shape: Sequence[int], places: Tensor) -> Tensor:
        """What the matrix is multiplied with at these positions of outputs of that shape: (positions, inputs times
        kernel size)."""
        if self.weight.ndim == 2:
            return x.flatten(0, -2)[places]
        kernel = self.weight.shape[2:]
        stride, padding, dilation = self._geometry(len(kernel))
        # channels last, so that what is read at once lies together
        x = functional.pad(x.movedim(1, -1), [0, 0, *(side for pair in reversed(padding) for side in pair)])
        steps = [math.prod(x.shape[n + 1 : -1]) for n in range(x.ndim - 1)]
        corners = torch.unravel_index(places, (shape[0], *shape[2:]))
        first = torch.zeros_like(places)
        for corner, step, s in zip(corners, steps, (1, *stride), strict=True):
            first += corner * step * s
        taps = torch.zeros(1, dtype=torch.long)
        for width, step, d in zip(kernel, steps[1:], dilation, strict=True):
            taps = (taps[:, None] + torch.arange(width) * step * d).flatten()
        read = x.flatten(0, -2)[(first[:, None] + taps).flatten()]
        return read.view(len(places), len(taps), -1).transpose(1, 2).flatten(1)

    def stream(self, env: Mapping[fx.Node, Any], shape: Sequence[int]) -> Tensor | None:
        """What will be added to outputs of that shape, once normalised, while the graph runs; None if nothing is."""
        beside = None if self.beside is None else env[self.beside]
        return beside if isinstance(beside, Tensor) and beside.shape == tuple(shape) else None

    def before_norm(self, outputs: Tensor) -> Tensor:
        """What the BatchNorm makes these of, its constant aside: (positions, output units), zero where it cannot."""
        if self.norm is None:
            return outputs
        scale = self.norm.scale
        return torch.where(scale.abs() > 1e-3 * scale.abs().max(), outputs / scale, 0)

    def add(self, matrix: Tensor, constant: Tensor) -> None:
        """Add (output units, inputs times kernel size) to the weight, and a constant to the bias or what stands in."""
        self.weight.add_(matrix.reshape(self.weight.shape))
        if self.bias is not None:
            self.bias.add_(constant)
        elif self.norm is not None:
            self.norm.mean.sub_(constant)

    def _geometry(self, dimensions: int) -> tuple[Sequence[int], Sequence[tuple[int, int]], Sequence[int]]:
        """Stride, padding (before, after) and dilation of each spatial dimension."""
        given = (*self.options, *(1, 0, 1)[len(self.options) :])
        stride, dilation = (_spread(value, dimensions) for value in (given[0], given[2]))
        if given[1] == "same":
            totals = [d * (k - 1) for d, k in zip(dilation, self.weight.shape[2:], strict=True)]
            return stride, [(total // 2, total - total // 2) for total in totals], dilation
        padding = _spread(0 if given[1] == "valid" else given[1], dimensions)
        return stride, [(p, p) for p in padding], dilation


@dataclass(frozen=True)
class Norm:
    """A BatchNorm in evaluation mode: its running mean, and what it multiplies each channel with, both (channels,)."""

    mean: Tensor
    scale: Tensor


def layers_of(model: nn.Module) -> list[Layer]:
    """The convolutions and linear layers of a captured model, in topological order.

    Left out: grouped convolutions, and layers whose weight is computed or used more than once.
    """
    place = {node: index for index, node in enumerate(graph_of(model).nodes)}
    uses = Counter(tensor_name(used) for node in place for used in node.all_input_nodes)
    layers = []
    for node in calls(model, *CONVOLUTIONS, ATEN.linear):
        name = tensor_name(node.args[1])
        grouped = len(node.args) > 6 and node.args[6] != 1
        if name is None or uses[name] != 1 or grouped or node.kwargs:
            continue
        bias = tensor_name(node.args[2]) if len(node.args) > 2 else None
        norm = _following_norm(model, node)
        layers.append(
            Layer(
                node=node.name,
                operator=node.target,
                options=tuple(node.args[3:6]),
                weight_name=name,
                weight=model.get_parameter(name),
                bias=model.get_parameter(bias) if bias and uses[bias] == 1 else None,
                norm=norm,
                beside=_beside(node, place, norm),
            )
        )
    return layers


@lru_cache(maxsize=64)  # drawn for every layer of every candidate
def _positions(total: int, at_most: int) -> Tensor:
    order = torch.randperm(total, generator=torch.Generator().manual_seed(0))
    return order[:at_most].sort().values


def _following_norm(model: nn.Module, node: fx.Node) -> Norm | None:
    reader = _reader(node)
    if reader is None or not is_call(node, *CONVOLUTIONS) or not is_call(reader, batch_norm):
        return None
    weight, mean, variance = (tensor_name(reader.args[place]) for place in (1, 3, 4))
    if mean is None or variance is None:
        return None
    epsilon: Any = reader.args[7]
    scale = (model.get_buffer(variance) + epsilon).rsqrt()
    return Norm(model.get_buffer(mean), scale * model.get_parameter(weight).detach() if weight else scale)


def _beside(node: fx.Node, place: Mapping[fx.Node, int], norm: Norm | None) -> fx.Node | None:
    """The other operand of the addition that alone reads the layer's output, if it comes first."""
    passed = (ATEN.dropout,) if norm is None else (ATEN.dropout, batch_norm)
    output, reader = node, _reader(node)
    while reader is not None and is_call(reader, *passed):
        output, reader = reader, _reader(reader)
    if reader is None or not is_call(reader, ATEN.add, ATEN.add_) or reader.kwargs:
        return None
    others = [operand for operand in reader.args if isinstance(operand, fx.Node) and operand is not output]
    return others[0] if others and place[others[0]] < place[node] else None


def _reader(node: fx.Node) -> fx.Node | None:
    return next(iter(node.users)) if len(node.users) == 1 else None


def _spread(value: Any, dimensions: int) -> list[int]:
    values = list(value) if isinstance(value, (list, tuple)) else [value]
    return values * dimensions if len(values) == 1 else values
