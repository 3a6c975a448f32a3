"""The trainable module that runs a captured graph under the user's parameter names."""

from __future__ import annotations

import copy
from collections.abc import Iterable, Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.fx import Graph


class GraphNet(nn.Module):
    """Runs ``graph`` on its own parameters; ``train()``, ``deepcopy``, ``state_dict`` work as in the user's model.

    The graph reads each module's ``training`` flag where it needs it (``b.0.bn1.training``), so one BatchNorm can be
    frozen by ``net.get_submodule("b.0.bn1").eval()``. Regularisers that leave no operator in evaluation mode
    (stochastic depth, dropout inside fused attention) are absent. Copies share the graph: treat it as immutable.
    """

    def __init__(
        self, graph: Graph, state: Mapping[str, Tensor], constants: Mapping[str, Any], specs: tuple[Any, Any]
    ) -> None:
        super().__init__()
        self._in_spec, self._out_spec = specs
        self._graph = graph
        for name, value in state.items():
            self._place(name, value)
        for name, value in constants.items():
            self._attach(name, value)
        for path in _flag_paths(graph):
            _descend(self, path.split(".")[:-1])
        self._run = _compile(graph)

    @property
    def graph(self) -> Graph:
        """The graph that it runs, which copies share."""
        return self._graph

    def forward(self, *args: Any) -> Any:
        return self._run(self, *args)

    def __deepcopy__(self, memo: dict[int, Any]) -> GraphNet:
        copied = GraphNet.__new__(GraphNet)
        memo[id(self)] = copied
        shared = {id(value): value for value in (self._graph, self._in_spec, self._out_spec, self._run)}
        memo.update(shared)
        copied.__dict__.update(copy.deepcopy(self.__dict__, memo))
        return copied

    def _place(self, name: str, value: Tensor) -> None:
        *path, leaf = name.split(".")
        owner = _descend(self, path)
        if isinstance(value, nn.Parameter):
            owner.register_parameter(leaf, value)
        else:
            owner.register_buffer(leaf, value)

    def _attach(self, name: str, value: Any) -> None:
        *path, leaf = name.split(".")
        owner = _descend(self, path)
        if isinstance(value, Tensor):
            owner.register_buffer(leaf, value, persistent=False)
        else:
            owner.add_module(leaf, value)


def _descend(root: nn.Module, path: Iterable[str]) -> nn.Module:
    """The submodule at ``path``, made of empty modules where missing."""
    for name in path:
        child = root._modules.get(name)
        if child is None:  # not add_module, whose check for attributes of that name costs more than the rest of a cut
            child = root._modules[name] = nn.Module()
        root = child
    return root


def _flag_paths(graph: Graph) -> list[str]:
    return [str(node.target) for node in graph.nodes if node.op == "get_attr" and str(node.target).endswith("training")]


def _compile(graph: Graph) -> Any:
    source = graph.python_code("self")
    scope: dict[str, Any] = dict(source.globals)
    exec(compile(source.src, "<autoprune graph>", "exec"), scope)  # noqa: S102 - the same way torch.fx runs a graph
    return scope["forward"]


def constant(value: Tensor, shape: list[int], layer: str) -> Tensor:
    """What a layer without inputs answers to any input: its bias, in a shape that broadcasts.

    ``layer`` is the name that its weight had in the dense model.
    """
    return value.reshape(shape)


def batch_norm(
    value: Tensor,
    weight: Tensor | None,
    bias: Tensor | None,
    mean: Tensor,
    variance: Tensor,
    training: bool,
    momentum: float,
    eps: float,
    counter: Tensor | None,
) -> Tensor:
    """``nn.BatchNorm``'s forward: batch statistics and the batch counter while training."""
    if training and counter is not None:
        counter.add_(1)
    return torch.nn.functional.batch_norm(value, mean, variance, weight, bias, training, momentum, eps)
