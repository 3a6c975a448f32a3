"""Normalisations and softmax."""

from __future__ import annotations

from torch.fx import Node

from autoprune.graph.coupling import Axes, Coupling
from autoprune.graph.edit import Edit
from autoprune.graph.nodes import argument, positional, set_argument, sizes
from autoprune.graph.rules._base import rewrite, rule


@rule("batch_norm", "instance_norm")
def batch_norm(coupling: Coupling, node: Node) -> Axes:
    """Channel by channel; with batch statistics every other dimension is averaged over."""
    source, weight = positional(node), argument(node, "weight")
    axes = list(coupling.axes(source))
    for name in ("weight", "bias", "running_mean", "running_var"):
        for axis in coupling.axes(argument(node, name)):
            axes[1] = coupling.unify(axes[1], axis)
    for axis in [*axes[:1], *axes[2:]]:
        coupling.mixes(axis)
    if weight in coupling.clean and all(axis is None for axis in [*axes[:1], *axes[2:]]):
        coupling.clean.add(node)
    return axes


@rewrite("batch_norm")
def switch_batch_norm(edit: Edit, old: Node, new: Node) -> None:
    """Batch statistics while training, and the batch counter, as in ``nn.BatchNorm2d``."""
    mean = argument(old, "running_mean")
    if isinstance(mean, Node) and not argument(old, "training"):
        edit.train_statistics(old, new, str(mean.target))


@rule("layer_norm", "rms_norm", "_fused_rms_norm")
def layer_norm(coupling: Coupling, node: Node) -> Axes:
    source, weight = positional(node), argument(node, "weight")
    axes = list(coupling.axes(source))
    count = len(argument(node, "normalized_shape"))
    names = ("weight", "bias") if "layer_norm" in str(node.target) else ("weight",)
    for name in names:
        for position, axis in enumerate(coupling.axes(argument(node, name))):
            dim = len(axes) - count + position
            axes[dim] = coupling.unify(axes[dim], axis)
    for axis in axes[-count:]:
        coupling.mixes(axis)
    if weight is not None and all(axis is None for axis in axes[:-count]):
        coupling.clean.add(node)
    return axes


@rewrite("layer_norm", "rms_norm")
def renormalize(edit: Edit, old: Node, new: Node) -> None:
    source, count = positional(old), len(argument(old, "normalized_shape"))
    rank = len(sizes(old))
    set_argument(new, "normalized_shape", [edit.size(source, dim) for dim in range(rank - count, rank)])


@rule("group_norm")
def group_norm(coupling: Coupling, node: Node) -> Axes:
    """Channel (group, member): whole groups leave the others alone, members change their group's statistics."""
    source, groups = positional(node), argument(node, "num_groups")
    axes = list(coupling.axes(source))
    for name in ("weight", "bias"):
        for axis in coupling.axes(argument(node, name)):
            axes[1] = coupling.unify(axes[1], axis)
    if axes[1] is not None:
        group, member = coupling.atoms.factor(axes[1], groups, len(axes[1]) // groups)
        coupling.kind(group, "group")
        coupling.mixes(member)
    for axis in axes[2:]:
        coupling.mixes(axis)
    if argument(node, "weight") is not None and all(axis is None for axis in axes[2:]):
        coupling.clean.add(node)
    return axes


@rewrite("group_norm")
def regroup_norm(edit: Edit, old: Node, new: Node) -> None:
    groups = argument(old, "num_groups")
    alive = edit.alive(old, 1)
    if alive is not None:
        members = len(alive) // groups
        set_argument(new, "num_groups", int(alive.reshape(groups, members).any(1).sum()))


@rule("softmax", "log_softmax", "_softmax", "_log_softmax")
def softmax(coupling: Coupling, node: Node) -> Axes:
    axes = list(coupling.axes(positional(node)))
    coupling.mixes(axes[argument(node, "dim")])
    return axes


@rule("_weight_norm")
def weight_norm(coupling: Coupling, node: Node) -> Axes:
    """g * v / ||v||, the norm over every dimension but ``dim``, along which g has its sizes."""
    direction, scale, kept = argument(node, "v"), argument(node, "g"), argument(node, "dim")
    axes = list(coupling.axes(direction))
    axes[kept] = coupling.unify(axes[kept], coupling.axes(scale)[kept])
    for dim, axis in enumerate(axes):
        if dim != kept % len(axes):
            coupling.contracts(axis, direction)
    coupling.carries_zero(node, direction)
    return axes
