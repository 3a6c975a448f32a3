"""Convolutions, pooling and the other operators over (batch, channel, *space)."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from torch.fx import Node

from autoprune.graph.atoms import FROZEN, Axis
from autoprune.graph.rules._base import Axes, argument, has_argument, positional, rewrite, rule, set_argument, sizes

if TYPE_CHECKING:
    from autoprune.graph.analysis import Analysis
    from autoprune.graph.cutting import Cut


@rule("conv1d", "conv2d", "conv3d", "convolution")
def convolution(analysis: Analysis, node: Node) -> Axes:
    """x (N, C, ...) with weight (O, C / groups, ...): channel c of C is (group, member), so is o of O."""
    if has_argument(node, "transposed") and argument(node, "transposed"):
        return _convolve(analysis, node, 1)
    return _convolve(analysis, node, 0)


@rule("conv_transpose1d", "conv_transpose2d", "conv_transpose3d")
def transposed_convolution(analysis: Analysis, node: Node) -> Axes:
    """Weight (C, O / groups, ...)."""
    return _convolve(analysis, node, 1)


def _convolve(analysis: Analysis, node: Node, out_dim: int) -> Axes:
    source, weight, bias = positional(node), argument(node, "weight"), argument(node, "bias")
    source_axes, weight_axes = analysis.axes(source), analysis.axes(weight)
    channel = len(source_axes) - (len(weight_axes) - 2) - 1
    analysis.freeze(*weight_axes[2:], *source_axes[channel + 1 :])
    full, member = weight_axes[0], weight_axes[1]
    groups = argument(node, "groups")
    if groups > 1:
        full_in_weight, made = _grouped(
            analysis, groups, (source_axes[channel], sizes(source)[channel]), weight, out_dim
        )
    else:
        full_in_weight = source_axes[channel]
        made = weight_axes[out_dim]
        analysis.unify(full_in_weight, member if out_dim == 0 else full)
    for axis in analysis.axes(bias):
        made = analysis.unify(made, axis)
    analysis.kind(made, "channel")
    if bias is None or source_axes[:channel] == [None] * channel:
        analysis.clean.add(node)
    result = [*source_axes[:channel], made, *[None] * (len(weight_axes) - 2)]
    _count(analysis, node, weight, out_dim)
    return result


def _grouped(
    analysis: Analysis, groups: int, source: tuple[Axis, int | None], weight: Node, out_dim: int
) -> tuple[Axis, Axis]:
    """Couple (group, member) of the input with the weight; returns the input's and the result's channels."""
    atoms, (full, member) = analysis.atoms, analysis.axes(weight)[:2]
    full_size, member_size = sizes(weight)[:2]
    channels, channel_count = source
    assert full_size is not None
    assert member_size is not None
    assert channel_count is not None
    if channels is None:
        channels = np.full(channel_count, FROZEN, dtype=np.int64)
    full = atoms.fresh(full_size) if full is None else full
    group_in, member_in = _split(analysis, channels, groups, channel_count // groups)
    group_full, member_full = _split(analysis, full, groups, full_size // groups)
    group = analysis.unify(group_in, group_full)
    analysis.kind(group, "group")
    if out_dim == 0:
        analysis.unify(member_in, member)
        return channels, _join(analysis, group, groups, member_full, full_size // groups)
    analysis.unify(member_in, member_full)
    return channels, _join(analysis, group, groups, member, member_size)


def _split(analysis: Analysis, axis: Axis, outer: int, inner: int) -> tuple[Axis, Axis]:
    return (None, None) if axis is None else analysis.atoms.factor(axis, outer, inner)


def _join(analysis: Analysis, outer: Axis, rows: int, inner: Axis, columns: int) -> Axis:
    """The flattened dimension (outer, inner)."""
    if outer is None:
        return None if inner is None else np.tile(inner, rows)
    return np.repeat(outer, columns) if inner is None else analysis.atoms.grid(outer, inner)


def _count(analysis: Analysis, node: Node, weight: Node, out_dim: int) -> None:
    """Weight elements times the positions it is applied at: those of the result, or of a transposed one's input."""
    rank = len(sizes(weight))
    applied = node if out_dim == 0 else positional(node)
    outer = (node, 1 - rank) if out_dim == 0 else (weight, 0)
    analysis.cost(outer, *((weight, dim) for dim in range(1, rank)), *((applied, dim) for dim in range(2 - rank, 0)))


@rewrite("conv1d", "conv2d", "conv3d", "convolution", "conv_transpose1d", "conv_transpose2d", "conv_transpose3d")
def regroup(cut: Cut, old: Node, new: Node) -> None:
    """The number of groups is what is left of them: channels over members."""
    groups = argument(old, "groups")
    if groups > 1:
        source, weight = positional(old), argument(old, "weight")
        channel = len(sizes(source)) - len(sizes(weight)) + 1
        if "transpose" in str(old.target):
            set_argument(new, "groups", cut.size(old, channel) // cut.size(weight, 1))
        else:
            set_argument(new, "groups", cut.size(source, channel) // cut.size(weight, 1))


@rule(
    "max_pool1d", "max_pool2d", "max_pool3d", "avg_pool1d", "avg_pool2d", "avg_pool3d", "adaptive_avg_pool1d",
    "adaptive_avg_pool2d", "adaptive_avg_pool3d", "adaptive_max_pool1d", "adaptive_max_pool2d", "upsample_nearest1d",
    "upsample_nearest2d", "upsample_nearest3d", "upsample_linear1d", "upsample_bilinear2d", "upsample_bicubic2d",
    "upsample_trilinear3d", "grid_sampler", "grid_sampler_2d", "max_pool2d_with_indices",
)  # fmt: skip
def spatial(analysis: Analysis, node: Node) -> Axes | list[Axes]:
    """Keeps (batch, channel), works within space."""
    source = positional(node)
    axes = analysis.axes(source)
    analysis.freeze(
        *axes[2:], *(axis for other in node.all_input_nodes if other is not source for axis in analysis.axes(other))
    )
    if source in analysis.clean:
        analysis.clean.add(node)
    result: Axes = [*axes[:2], *[None] * (len(axes) - 2)]
    several = isinstance(node.meta.get("val"), tuple | list)
    return [result, list(result)] if several else result
