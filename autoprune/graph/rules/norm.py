"""Normalisations and softmax."""

from __future__ import annotations

from typing import TYPE_CHECKING

from torch.fx import Node

from autoprune.graph.rules._base import Axes, argument, positional, rewrite, rule, set_argument, sizes

if TYPE_CHECKING:
    from autoprune.graph.analysis import Analysis
    from autoprune.graph.cutting import Cut


@rule("batch_norm", "instance_norm")
def batch_norm(analysis: Analysis, node: Node) -> Axes:
    """Channel by channel; with batch statistics every other dimension is averaged over."""
    source, weight = positional(node), argument(node, "weight")
    axes = list(analysis.axes(source))
    for name in ("weight", "bias", "running_mean", "running_var"):
        for axis in analysis.axes(argument(node, name)):
            axes[1] = analysis.unify(axes[1], axis)
    for axis in [*axes[:1], *axes[2:]]:
        analysis.mixes(axis)
    if weight in analysis.clean and all(axis is None for axis in [*axes[:1], *axes[2:]]):
        analysis.clean.add(node)
    return axes


@rewrite("batch_norm")
def switch_batch_norm(cut: Cut, old: Node, new: Node) -> None:
    """Batch statistics while training, and the batch counter, as in ``nn.BatchNorm2d``."""
    mean = argument(old, "running_mean")
    if isinstance(mean, Node) and not argument(old, "training"):
        cut.train_statistics(old, new, str(mean.target))


@rule("layer_norm", "rms_norm", "_fused_rms_norm")
def layer_norm(analysis: Analysis, node: Node) -> Axes:
    source, weight = positional(node), argument(node, "weight")
    axes = list(analysis.axes(source))
    count = len(argument(node, "normalized_shape"))
    names = ("weight", "bias") if "layer_norm" in str(node.target) else ("weight",)
    for name in names:
        for position, axis in enumerate(analysis.axes(argument(node, name))):
            dim = len(axes) - count + position
            axes[dim] = analysis.unify(axes[dim], axis)
    for axis in axes[-count:]:
        analysis.mixes(axis)
    if weight is not None and all(axis is None for axis in axes[:-count]):
        analysis.clean.add(node)
    return axes


@rewrite("layer_norm", "rms_norm")
def renormalize(cut: Cut, old: Node, new: Node) -> None:
    source, count = positional(old), len(argument(old, "normalized_shape"))
    rank = len(sizes(old))
    set_argument(new, "normalized_shape", [cut.size(source, dim) for dim in range(rank - count, rank)])


@rule("group_norm")
def group_norm(analysis: Analysis, node: Node) -> Axes:
    """Channel (group, member): whole groups leave the others alone, members change their group's statistics."""
    source, groups = positional(node), argument(node, "num_groups")
    axes = list(analysis.axes(source))
    for name in ("weight", "bias"):
        for axis in analysis.axes(argument(node, name)):
            axes[1] = analysis.unify(axes[1], axis)
    if axes[1] is not None:
        group, member = analysis.atoms.factor(axes[1], groups, len(axes[1]) // groups)
        analysis.kind(group, "group")
        analysis.mixes(member)
    for axis in axes[2:]:
        analysis.mixes(axis)
    if argument(node, "weight") is not None and all(axis is None for axis in axes[2:]):
        analysis.clean.add(node)
    return axes


@rewrite("group_norm")
def regroup_norm(cut: Cut, old: Node, new: Node) -> None:
    groups = argument(old, "num_groups")
    alive = cut.alive(old, 1)
    if alive is not None:
        members = len(alive) // groups
        set_argument(new, "num_groups", int(alive.reshape(groups, members).any(1).sum()))


@rule("softmax", "log_softmax", "_softmax", "_log_softmax")
def softmax(analysis: Analysis, node: Node) -> Axes:
    axes = list(analysis.axes(positional(node)))
    analysis.mixes(axes[argument(node, "dim")])
    return axes
