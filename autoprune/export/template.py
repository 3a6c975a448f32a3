"""A captured model's ONNX graph with its weights and sizes left open, learned from two of its cuts."""

from __future__ import annotations

import copy
import types
from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.fx import Graph, Interpreter

from autoprune.export.onnx import TAG, translate
from autoprune.export.parity import Array
from autoprune.export.sizes import Address, Sizes, fetch, read_sizes

if TYPE_CHECKING:
    import onnx
    import onnx_ir

Where = tuple[int, int | str]
"""A constant in an ONNX graph: position of the node, and which input (int) or attribute (str)."""


class NotUnderstoodError(Exception):
    """A difference between two ONNX graphs that no number of the captured graphs explains; the message says which."""


@dataclass(frozen=True)
class Slot:
    """Element ``index`` of the constant at ``where`` is the number at ``source`` times ``ratio``."""

    where: Where
    index: int
    source: Address
    ratio: Fraction


class Template:
    """The dense model's ONNX graph with its weights and sizes left open."""

    def __init__(
        self,
        proto: onnx.ModelProto,
        slots: list[Slot],
        weights: frozenset[str],
        dense: Sizes,
        moved: frozenset[Address],
    ) -> None:
        self._proto = proto
        self._slots = slots
        self._weights = weights
        self._dense = dense
        self._moved = moved

    @classmethod
    def learn(cls, dense: nn.Module, probe: nn.Module, inputs: tuple[Tensor, ...]) -> Template:
        """Compare two cuts of one graph. Raises NotUnderstoodError, or StageError like `export_fresh`."""
        import onnx_ir

        sizes = [read_sizes(module, _graph_of(module)) for module in (dense, probe)]
        if sizes[0].structure != sizes[1].structure:
            raise NotUnderstoodError("The captured graphs of two cuts differ in more than sizes.")
        models = [translate(_tagged(module), inputs) for module in (dense, probe)]
        weights = frozenset(name for name in models[0].graph.initializers if _is_weight(dense, name))
        if _skeleton(models[0], weights) != _skeleton(models[1], weights):
            raise NotUnderstoodError("The ONNX graphs of two cuts differ in more than sizes.")
        moved = frozenset(a for a, number in sizes[0].numbers.items() if number != sizes[1].numbers[a])
        slots = list(_slots(models, sizes, moved, weights, _graph_of(dense)))
        for name in weights:
            models[0].graph.initializers[name].const_value = onnx_ir.tensor(np.zeros(0, np.float32), name=name)
        for value in _intermediate(models[0]):
            value.shape = None
        return cls(onnx_ir.to_proto(models[0]), slots, weights, sizes[0], moved)

    def fill(self, module: nn.Module) -> onnx_ir.Model:
        """The graph of ``module``. Raises NotUnderstoodError where it differs in what was not learned."""
        import onnx_ir

        sizes = read_sizes(module, _graph_of(module))
        if sizes.structure != self._dense.structure:
            raise NotUnderstoodError("The captured graph differs from the dense model's in more than sizes.")
        for address, number in self._dense.numbers.items():
            if sizes.numbers[address] != number and address not in self._moved:
                raise NotUnderstoodError(f"A size of node {address[0]} changed that did not in the probe.")
        model = onnx_ir.from_proto(self._proto)
        self._fill_slots(model, sizes)
        for name in self._weights:
            value = model.graph.initializers[name]
            array = fetch(module, name).detach().cpu().contiguous().numpy()
            value.const_value, value.shape = onnx_ir.tensor(array, name=name), onnx_ir.Shape(array.shape)
        return model

    def _fill_slots(self, model: onnx_ir.Model, sizes: Sizes) -> None:
        nodes = list(model.graph)
        constants: dict[Where, Array] = {}
        for slot in self._slots:
            array = constants.setdefault(slot.where, _constant(nodes, slot.where))
            number = Fraction(sizes.numbers[slot.source]) * slot.ratio
            if array.dtype.kind == "i" and number.denominator != 1:
                raise NotUnderstoodError(f"The size {float(number)} of {nodes[slot.where[0]].name} is not whole.")
            array.flat[slot.index] = int(number) if array.dtype.kind == "i" else float(number)
        for where, array in constants.items():
            _set_constant(nodes, where, array)


def _graph_of(module: nn.Module) -> Graph:
    graph = getattr(module, "graph", None)
    if not isinstance(graph, Graph):
        raise NotUnderstoodError(f"{type(module).__name__} is not a captured graph.")
    return graph


def _is_weight(module: nn.Module, name: str) -> bool:
    try:
        return isinstance(fetch(module, name), Tensor)
    except AttributeError:
        return False


def _tagged(module: nn.Module) -> nn.Module:
    """``module``, run so that every exported operator carries the position of its node where a stack trace would be.

    Marks the nodes of its graph, so ``module`` must be the caller's own.
    """
    graph = _graph_of(module)
    for position, node in enumerate(graph.nodes):
        node.meta = {"stack_trace": str(position)}

    def forward(self: nn.Module, *args: Any) -> Any:
        with torch.fx.traceback.preserve_node_meta():
            return Interpreter(self, graph=graph).run(*args)

    tagged = copy.copy(module)
    tagged.forward = types.MethodType(forward, tagged)
    return tagged


def _intermediate(model: onnx_ir.Model) -> Iterator[onnx_ir.Value]:
    return (value for node in model.graph for value in node.outputs if not value.is_graph_output())


def _skeleton(model: onnx_ir.Model, weights: frozenset[str]) -> object:
    """What two ONNX graphs have in common when only numbers differ."""
    graph = model.graph
    ends = [(value.name, str(value.shape), str(value.dtype)) for value in (*graph.inputs, *graph.outputs)]
    names = {value: f"input {value.name}" for value in graph.inputs}
    nodes = []
    for position, node in enumerate(graph):
        names |= {value: f"{position}.{index}" for index, value in enumerate(node.outputs)}
        inputs = [_kind_of_input(value, names, weights) for value in node.inputs]
        attributes = sorted((name, _kind_of_attribute(attribute)) for name, attribute in node.attributes.items())
        nodes.append((node.domain, node.op_type, inputs, attributes, len(node.outputs)))
    return ends, [names[value] for value in graph.outputs], nodes


def _kind_of_input(value: onnx_ir.Value | None, names: dict[onnx_ir.Value, str], weights: frozenset[str]) -> str:
    if value is None:
        return "absent"
    if value in names or value.name in weights:
        return names.get(value, f"weight {value.name}")
    assert value.const_value is not None
    return f"{value.const_value.dtype}{value.const_value.shape}"


def _kind_of_attribute(attribute: onnx_ir.Attr) -> str:
    numeric = attribute.type.name in ("INT", "INTS", "FLOAT", "FLOATS")
    return f"{attribute.type.name}{np.shape(attribute.value)}" if numeric else repr(attribute)


def _constants(model: onnx_ir.Model, weights: frozenset[str]) -> Iterator[Where]:
    for position, node in enumerate(model.graph):
        for index, value in enumerate(node.inputs):
            if value is not None and value.is_initializer() and value.name not in weights:
                yield position, index
        for name, attribute in node.attributes.items():
            if attribute.type.name in ("INT", "INTS", "FLOAT", "FLOATS"):
                yield position, name


def _constant(nodes: list[onnx_ir.Node], where: Where) -> Array:
    position, place = where
    if isinstance(place, str):
        return np.array(nodes[position].attributes[place].value)
    value = nodes[position].inputs[place]
    assert value is not None
    assert value.const_value is not None
    return np.array(value.const_value.numpy())


def _set_constant(nodes: list[onnx_ir.Node], where: Where, array: Array) -> None:
    import onnx_ir

    position, place = where
    if isinstance(place, str):
        attributes = nodes[position].attributes
        attributes[place] = onnx_ir.Attr(place, attributes[place].type, array.tolist())
        return
    value = nodes[position].inputs[place]
    assert value is not None
    value.const_value = onnx_ir.tensor(array, name=value.name)


def _slots(
    models: list[onnx_ir.Model], sizes: list[Sizes], moved: frozenset[Address], weights: frozenset[str], graph: Graph
) -> Iterator[Slot]:
    """One slot for each number in which the two ONNX graphs differ. Raises NotUnderstoodError."""
    nodes = [list(model.graph) for model in models]
    for where in _constants(models[0], weights):
        before, after = (_constant(side, where) for side in nodes)
        for index in np.flatnonzero(before.ravel() != after.ravel()):
            position = _origin(nodes[0], where[0])
            found = _explain(
                before.flat[index], after.flat[index], sizes, sorted(moved, key=lambda a: abs(a[0] - position))
            )
            if found is None:
                node = nodes[0][where[0]]
                raise NotUnderstoodError(
                    f"{node.op_type} (from {list(graph.nodes)[position]}) has a number whose origin is unknown."
                )
            yield Slot(where, int(index), *found)


def _origin(nodes: list[onnx_ir.Node], position: int) -> int:
    """Position in the captured graph of what became this node; the nearest before it that is known."""
    tags = (node.metadata_props.get(TAG, "") for node in reversed(nodes[: position + 1]))
    return next((int(tag) for tag in tags if tag.isdigit()), 0)


def _explain(before: Any, after: Any, sizes: list[Sizes], nearest: list[Address]) -> tuple[Address, Fraction] | None:
    """The nearest number that changed in the same ratio."""
    old, new = Fraction(float(before)), Fraction(float(after))
    for address in nearest:
        was, now = (Fraction(side.numbers[address]) for side in sizes)
        if was and old * now == new * was:
            return address, old / was
    return None
