"""Dropped residual branches add nothing: no constant is left where one could be taken away."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from autoprune.compress.interpret import calls, is_call, tensor_name
from autoprune.graph.net import batch_norm, constant

if TYPE_CHECKING:
    from torch import fx, nn

    from autoprune.graph.model import Keep, PrunableGraph


@dataclass(frozen=True)
class Ending:
    """What is left of a dropped branch: a layer without inputs and the BatchNorm that alone reads it, if one does.

    Attributes:
        node: the layer, which answers with its bias or with zeros.
        norm: the BatchNorm.
        silent: whether `silence` makes it add nothing to the stream beside it.
    """

    node: fx.Node
    norm: fx.Node | None
    silent: bool


def cut(graph: PrunableGraph, keep: Keep) -> nn.Module:
    """``graph.cut(keep)`` in evaluation mode; a dropped branch that was added to a stream adds nothing.

    The constant that it could add on average would cost an operator over the whole stream, and is worth next to
    nothing: the layers behind are refitted without it. Where the branch was multiplied with something, it stays.
    """
    model = graph.cut(keep).eval()
    for ending in endings(model):
        if ending.silent:
            _silence(model, ending)
    return model


def endings(model: nn.Module) -> list[Ending]:
    """What is left of the dropped branches of a cut model."""
    return [_ending(node) for node in calls(model, constant)]


def _ending(node: fx.Node) -> Ending:
    reader = next(iter(node.users)) if len(node.users) == 1 else None
    norm = reader if reader is not None and is_call(reader, batch_norm) else None
    last = node if norm is None else norm
    added = len(last.users) == 1 and _is_sum_with_a_stream(next(iter(last.users)), last)
    own = all(len(value.users) == 1 for value in (node.all_input_nodes[0], *(norm.all_input_nodes if norm else ())))
    return Ending(node, norm, added and own)


def _is_sum_with_a_stream(node: fx.Node, last: fx.Node) -> bool:
    import torch

    others = [value for value in node.all_input_nodes if value is not last]
    return is_call(node, torch.ops.aten.add, torch.ops.aten.add_) and len(others) == 1 and others[0].op != "get_attr"


def _silence(model: nn.Module, ending: Ending) -> None:
    """Zero whatever makes the constant, and keep training from changing it."""
    import torch

    names = [tensor_name(ending.node.args[0])]
    if ending.norm is not None:
        _, weight, bias, mean, *_ = ending.norm.args
        names += [tensor_name(weight), tensor_name(bias), tensor_name(mean)]
    parameters, buffers = dict(model.named_parameters()), dict(model.named_buffers())
    with torch.no_grad():
        for name in names:
            if name in parameters:
                parameters[name].requires_grad_(False).zero_()
            elif name in buffers:
                buffers[name].zero_()
