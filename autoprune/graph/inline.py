"""Opens the regions that torch.export wraps (`torch.no_grad()`, `autocast(enabled=False)`): rules see inside."""

from __future__ import annotations

from typing import Any

import torch
from torch.fx import GraphModule, Node

_NO_GRAD = "wrap_with_set_grad_enabled"
_AUTOCAST = "wrap_with_autocast"


def inline_regions(traced: GraphModule) -> None:
    """Replace each wrapped region by its operators, but one under an enabled autocast: it has another precision."""
    for node in list(traced.graph.nodes):
        name = getattr(node.target, "__name__", "")
        if node.op == "call_function" and name in (_NO_GRAD, _AUTOCAST):
            position = 1 if name == _NO_GRAD else 4
            body = getattr(traced, str(node.args[position].target))
            plain = all(inner.op != "get_attr" for inner in body.graph.nodes)
            if plain and (name == _NO_GRAD or node.args[2] is False):
                detached = name == _NO_GRAD and node.args[0] is False
                _inline(traced, node, (body, node.args[position + 1 :]), detached=detached)


def _inline(traced: GraphModule, node: Node, call: tuple[GraphModule, Any], *, detached: bool) -> None:
    body, arguments = call
    values = dict(zip([inner for inner in body.graph.nodes if inner.op == "placeholder"], arguments, strict=True))
    with traced.graph.inserting_before(node):
        for inner in body.graph.nodes:
            if inner.op == "call_function":
                values[inner] = traced.graph.node_copy(inner, values.__getitem__)
        outputs = list(next(inner for inner in body.graph.nodes if inner.op == "output").args[0])
        results = [_result(traced, values[value], detached=detached) for value in outputs]
    for user in list(node.users):
        number = user.args[1]
        assert isinstance(number, int)
        user.replace_all_uses_with(results[number])
        traced.graph.erase_node(user)
    traced.graph.erase_node(node)


def _result(traced: GraphModule, value: Any, *, detached: bool) -> Any:
    if not detached or not isinstance(value.meta.get("val"), torch.Tensor):
        return value
    cut_off = traced.graph.call_function(torch.ops.aten.detach.default, (value,))
    cut_off.meta = dict(value.meta)
    return cut_off
