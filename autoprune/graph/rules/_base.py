"""How an operator couples dimensions: one rule per operator family.

A rule takes the coupling and the node, unifies the atoms of its operands, and returns the atoms of its result: a list
with one ``Axis`` per dimension (a list of such lists for several results). It is found by the operator's ATen name;
an in-place operator uses the rule of its plain one. A rewrite renews the sizes baked into a node after a cut.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeAlias, TypeVar

from torch.fx import Node

from autoprune.graph.coupling import Coupling
from autoprune.graph.edit import Edit
from autoprune.graph.nodes import operator_name

Rule: TypeAlias = Callable[[Coupling, Node], Any]
Rewrite: TypeAlias = Callable[[Edit, Node, Node], Node | None]
T = TypeVar("T")

RULES: dict[str, Rule] = {}
REWRITES: dict[str, Rewrite] = {}


def rule(*operators: str) -> Callable[[Rule], Rule]:
    def register(function: Rule) -> Rule:
        _add(RULES, operators, function)
        return function

    return register


def rewrite(*operators: str) -> Callable[[Rewrite], Rewrite]:
    """``rewrite(edit, old, new)`` edits the copy ``new`` of node ``old``, or returns a node to use in its place."""

    def register(function: Rewrite) -> Rewrite:
        _add(REWRITES, operators, function)
        return function

    return register


def _add(registry: dict[str, T], operators: tuple[str, ...], function: T) -> None:
    for name in operators:
        if name in registry:
            raise ValueError(f"operator {name!r} has two rules")
        registry[name] = function


def lookup(registry: dict[str, T], node: Node) -> T | None:
    name = operator_name(node)
    return registry.get(name) or registry.get(name.removesuffix("_"))
