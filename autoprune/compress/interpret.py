"""Running an exported graph while something else stands in for some of its nodes."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from typing import Any

from torch import Tensor, fx, nn

from autoprune.graph.net import GraphNet

Stand = Callable[..., Any]


class Interpreter(fx.Interpreter):
    """Runs a captured model node by node; functions stand in for the nodes named in ``instead``.

    While it runs, ``env`` holds the values that are still needed. Of nodes that are named in ``keep`` copies are
    ``kept`` as they are computed.
    """

    def __init__(self, model: nn.Module, instead: Mapping[str, Stand] | None = None) -> None:
        super().__init__(model, graph=graph_of(model))
        self.instead = dict(instead or {})
        self.keep: Collection[str] = ()
        self.kept: dict[str, Any] = {}

    def run_node(self, n: fx.Node) -> Any:
        """The value of the node."""
        if (stand := self.instead.get(n.name)) is not None:
            args, _ = self.fetch_args_kwargs_from_env(n)
            return stand(*args)
        value = super().run_node(n)
        if n.name in self.keep and isinstance(value, (Tensor, int, float)):
            self.kept[n.name] = value.clone() if isinstance(value, Tensor) else value
        return value


def graph_of(model: nn.Module) -> fx.Graph:
    """The graph that a captured model runs. Raises TypeError for any other module."""
    if not isinstance(model, GraphNet):
        raise TypeError(f"expected a model from PrunableGraph, got {type(model).__name__}")
    return model.graph


def calls(model: nn.Module, *targets: Any) -> list[fx.Node]:
    """The nodes that call one of these operator packets (``aten.conv2d``) or functions, in topological order."""
    return [node for node in graph_of(model).nodes if is_call(node, *targets)]


def is_call(node: fx.Node, *targets: Any) -> bool:
    """Whether the node calls one of these operator packets or functions."""
    return node.op == "call_function" and getattr(node.target, "overloadpacket", node.target) in targets


def tensor_name(argument: Any) -> str | None:
    """The name of the parameter or buffer that an argument reads directly; None when it is anything else."""
    return str(argument.target) if isinstance(argument, fx.Node) and argument.op == "get_attr" else None
