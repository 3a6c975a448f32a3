"""Convolutions, pooling and the other operators over (batch, channel, *space)."""

from __future__ import annotations

from math import prod

import numpy as np
import numpy.typing as npt
from torch.fx import Node

from autoprune.graph.atoms import FROZEN, Axis
from autoprune.graph.coupling import Axes, Coupling
from autoprune.graph.edit import Edit
from autoprune.graph.nodes import argument, has_argument, positional, set_argument, sizes
from autoprune.graph.rules._base import rewrite, rule


@rule("conv1d", "conv2d", "conv3d", "convolution")
def convolution(coupling: Coupling, node: Node) -> Axes:
    """x (N, C, ...) with weight (O, C / groups, ...): channel c of C is (group, member), so is o of O."""
    if has_argument(node, "transposed") and argument(node, "transposed"):
        return _convolve(coupling, node, 1)
    return _convolve(coupling, node, 0)


@rule("conv_transpose1d", "conv_transpose2d", "conv_transpose3d")
def transposed_convolution(coupling: Coupling, node: Node) -> Axes:
    """Weight (C, O / groups, ...)."""
    return _convolve(coupling, node, 1)


def _convolve(coupling: Coupling, node: Node, out_dim: int) -> Axes:
    source, weight, bias = positional(node), argument(node, "weight"), argument(node, "bias")
    source_axes, weight_axes = coupling.axes(source), coupling.axes(weight)
    channel = len(source_axes) - (len(weight_axes) - 2) - 1
    coupling.freeze(*weight_axes[2:], *source_axes[channel + 1 :])
    full, member = weight_axes[0], weight_axes[1]
    groups = argument(node, "groups")
    if groups > 1:
        full_in_weight, made = _grouped(
            coupling, groups, (source_axes[channel], sizes(source)[channel]), weight, out_dim
        )
    else:
        full_in_weight = source_axes[channel]
        made = weight_axes[out_dim]
        coupling.unify(full_in_weight, member if out_dim == 0 else full)
    for axis in coupling.axes(bias):
        made = coupling.unify(made, axis)
    coupling.kind(made, "channel")
    if bias is None or source_axes[:channel] == [None] * channel:
        coupling.clean.add(node)
    result = [*source_axes[:channel], made, *[None] * (len(weight_axes) - 2)]
    _count(coupling, node, weight, out_dim)
    return result


def _grouped(
    coupling: Coupling, groups: int, source: tuple[Axis, int | None], weight: Node, out_dim: int
) -> tuple[Axis, Axis]:
    """Couple (group, member) of the input with the weight; returns the input's and the result's channels."""
    full, member = coupling.axes(weight)[:2]
    full_size, member_size = sizes(weight)[:2]
    channels, channel_count = source
    assert full_size is not None
    assert member_size is not None
    assert channel_count is not None
    channels = _whole(channel_count) if channels is None else channels
    full = _whole(full_size) if full is None else full
    group_in, member_in = _split(coupling, channels, groups, channel_count // groups)
    group_full, member_full = _split(coupling, full, groups, full_size // groups)
    group = coupling.unify(group_in, group_full)
    coupling.kind(group, "group")
    if out_dim == 0:
        coupling.unify(member_in, member)
        return channels, _join(coupling, group, groups, member_full, full_size // groups)
    coupling.unify(member_in, member_full)
    return channels, _join(coupling, group, groups, member, member_size)


def _whole(size: int) -> npt.NDArray[np.int64]:
    return np.full(size, FROZEN, dtype=np.int64)


def _split(coupling: Coupling, axis: Axis, outer: int, inner: int) -> tuple[Axis, Axis]:
    return (None, None) if axis is None else coupling.atoms.factor(axis, outer, inner)


def _join(coupling: Coupling, outer: Axis, rows: int, inner: Axis, columns: int) -> Axis:
    """The flattened dimension (outer, inner)."""
    if outer is None:
        return None if inner is None else np.tile(inner, rows)
    return np.repeat(outer, columns) if inner is None else coupling.atoms.grid(outer, inner)


def _count(coupling: Coupling, node: Node, weight: Node, out_dim: int) -> None:
    """Weight elements times the positions it is applied at: those of the result, or of a transposed one's input."""
    rank = len(sizes(weight))
    applied = node if out_dim == 0 else positional(node)
    outer = (node, 1 - rank) if out_dim == 0 else (weight, 0)
    coupling.cost(outer, *((weight, dim) for dim in range(1, rank)), *((applied, dim) for dim in range(2 - rank, 0)))


@rewrite("conv1d", "conv2d", "conv3d", "convolution", "conv_transpose1d", "conv_transpose2d", "conv_transpose3d")
def regroup(edit: Edit, old: Node, new: Node) -> None:
    """The number of groups is what is left of them: channels over members."""
    groups = argument(old, "groups")
    if groups > 1:
        source, weight = positional(old), argument(old, "weight")
        channel = len(sizes(source)) - len(sizes(weight)) + 1
        if "transpose" in str(old.target):
            set_argument(new, "groups", edit.size(old, channel) // edit.size(weight, 1))
        else:
            set_argument(new, "groups", edit.size(source, channel) // edit.size(weight, 1))


@rule(
    "max_pool1d", "max_pool2d", "max_pool3d", "avg_pool1d", "avg_pool2d", "avg_pool3d", "adaptive_avg_pool1d",
    "adaptive_avg_pool2d", "adaptive_avg_pool3d", "adaptive_max_pool1d", "adaptive_max_pool2d", "upsample_nearest1d",
    "upsample_nearest2d", "upsample_nearest3d", "upsample_linear1d", "upsample_bilinear2d", "upsample_bicubic2d",
    "upsample_trilinear3d", "grid_sampler", "grid_sampler_2d", "max_pool2d_with_indices",
)  # fmt: skip
def spatial(coupling: Coupling, node: Node) -> Axes | list[Axes]:
    """Keeps (batch, channel), works within space."""
    source = positional(node)
    axes = coupling.axes(source)
    coupling.freeze(
        *axes[2:], *(axis for other in node.all_input_nodes if other is not source for axis in coupling.axes(other))
    )
    coupling.carries_zero(node, source)
    result: Axes = [*axes[:2], *[None] * (len(axes) - 2)]
    several = isinstance(node.meta.get("val"), tuple | list)
    return [result, list(result)] if several else result


@rule("im2col")
def unfold(coupling: Coupling, node: Node) -> Axes:
    """(N, C, H, W) -> (N, C * window, positions)."""
    source = positional(node)
    *lead, channel, height, width = coupling.axes(source)
    coupling.freeze(height, width)
    coupling.carries_zero(node, source)
    return [*lead, None if channel is None else np.repeat(channel, prod(argument(node, "kernel_size"))), None]


@rule("col2im")
def fold(coupling: Coupling, node: Node) -> Axes:
    """(N, C * window, positions) -> (N, C, H, W), overlaps added: a channel's window lives and dies with it."""
    source, window = positional(node), prod(argument(node, "kernel_size"))
    *lead, axis, positions = coupling.axes(source)
    coupling.freeze(positions)
    coupling.carries_zero(node, source)
    channel = None if axis is None else axis[::window]
    if channel is not None:
        coupling.unify(axis, np.repeat(channel, window))
    return [*lead, channel, None, None]
