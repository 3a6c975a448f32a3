"""A captured model's ONNX graph with its weights and sizes left open, learned from two of its cuts."""

from __future__ import annotations

import copy
import types
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import torch
from torch import Tensor, nn
from torch.fx import Interpreter

from autoprune.export.dropped import replace_dropped
from autoprune.export.onnx import TAG, translate
from autoprune.export.parity import Array
from autoprune.export.sizes import Address, NotUnderstoodError, Sizes, fetch, graph_of, read_sizes

if TYPE_CHECKING:
    import onnx
    import onnx_ir

Where = tuple[int, int | str]
"""A constant in an ONNX graph: position of the node, and which input (int) or attribute (str)."""


@dataclass(frozen=True)
class Slot:
    """Element ``index`` of the constant at ``where`` (or its length) is the number at ``source`` times ``ratio``."""

    where: Where
    index: int | Literal["length"]
    source: Address
    ratio: Fraction


class Template:
    """The dense model's ONNX graph with its weights and sizes left open."""

    def __init__(
        self,
        models: Sequence[onnx_ir.Model],
        cuts: Sequence[nn.Module],
        weights: frozenset[str],
        *,
        inputs: tuple[Tensor, ...] | None = None,
    ) -> None:
        sizes = [read_sizes(cut, inputs) for cut in cuts]
        self._inputs = inputs
        self._weights = weights
        self._dense = sizes[0]
        self._moved = frozenset(a for a, number in sizes[0].numbers.items() if number != sizes[1].numbers[a])
        self._slots = list(_slots(models, sizes, self._moved, weights))
        self._proto = _without_weights(models[0], weights)

    @classmethod
    def learn(cls, dense: nn.Module, probe: nn.Module, inputs: tuple[Tensor, ...]) -> Template:
        """Compare two cuts of one graph, which it may mark. Where the graphs do not hold every size, run them for it.

        Raises NotUnderstoodError, or StageError like ``export_fresh``.
        """
        if read_sizes(dense).structure != read_sizes(probe).structure:
            raise NotUnderstoodError("The captured graphs of two cuts differ in more than sizes.")
        models = [translate(_tagged(module), inputs) for module in (dense, probe)]
        weights = frozenset(name for name in models[0].graph.initializers if _is_weight(dense, name))
        if _skeleton(models[0], weights) != _skeleton(models[1], weights):
            raise NotUnderstoodError("The ONNX graphs of two cuts differ in more than sizes.")
        try:
            return cls(models, (dense, probe), weights)
        except NotUnderstoodError:
            return cls(models, (dense, probe), weights, inputs=inputs)

    def fill(self, module: nn.Module, *, undropped: nn.Module | None = None) -> onnx_ir.Model:
        """The graph of ``module``. Raises NotUnderstoodError where it differs in what was not learned.

        Where ``module`` has dropped branches, ``undropped`` is the same cut with some units left in them.
        """
        import onnx_ir

        sizes = read_sizes(undropped or module, self._inputs)
        if sizes.structure != self._dense.structure:
            raise NotUnderstoodError("The captured graph differs from the dense model's in more than sizes.")
        for address, number in self._dense.numbers.items():
            if sizes.numbers[address] != number and address not in self._moved:
                raise NotUnderstoodError(f"A size of node {address[0]} changed that did not in the probe.")
        model = onnx_ir.from_proto(self._proto)
        self._fill_slots(model, sizes)
        replace_dropped(model, module)
        for name in self._weights & set(model.graph.initializers):
            if not _is_weight(module, name):
                raise NotUnderstoodError(f"{name} is of a dropped branch and still needed.")
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
            whole = slot.index == "length" or array.dtype.kind == "i"
            if whole and number.denominator != 1:
                raise NotUnderstoodError(f"The size {float(number)} of {nodes[slot.where[0]].name} is not whole.")
            if slot.index == "length":
                constants[slot.where] = np.full(int(number), array[0])
            else:
                array.flat[slot.index] = int(number) if whole else float(number)
        for where, array in constants.items():
            _set_constant(nodes, where, array)


def _is_weight(module: nn.Module, name: str) -> bool:
    try:
        return isinstance(fetch(module, name), Tensor)
    except AttributeError:
        return False


def _tagged(module: nn.Module) -> nn.Module:
    """``module``, run so that every exported operator carries the position of its node where a stack trace would be.

    Marks the nodes of its graph, so ``module`` must be the caller's own.
    """
    graph = graph_of(module)
    for position, node in enumerate(graph.nodes):
        node.meta = {"stack_trace": str(position)}

    def forward(self: nn.Module, *args: Any) -> Any:
        with torch.fx.traceback.preserve_node_meta():
            return Interpreter(self, graph=graph).run(*args)

    tagged = copy.copy(module)
    tagged.forward = types.MethodType(forward, tagged)
    return tagged


def _without_weights(model: onnx_ir.Model, weights: frozenset[str]) -> onnx.ModelProto:
    """``model`` with empty weights and no shapes. Consumes ``model``."""
    import onnx_ir

    for name in weights:
        model.graph.initializers[name].const_value = onnx_ir.tensor(np.zeros(0, np.float32), name=name)
    for node in model.graph:
        for value in node.outputs:
            if not value.is_graph_output():
                value.shape = None
    return onnx_ir.to_proto(model)


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
    array = value.const_value.numpy()
    if array.ndim == 1 and array.size and (array == array[0]).all():
        return f"{array.dtype} all {array[0]}" if array.dtype.kind == "f" else f"{array.dtype}[]"
    return f"{array.dtype}{array.shape}"


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
    value.const_value, value.shape = onnx_ir.tensor(array, name=value.name), onnx_ir.Shape(array.shape)


def _slots(
    models: Sequence[onnx_ir.Model], sizes: Sequence[Sizes], moved: frozenset[Address], weights: frozenset[str]
) -> Iterator[Slot]:
    """One slot for each number in which the two ONNX graphs differ. Raises NotUnderstoodError."""
    nodes = [list(model.graph) for model in models]
    for where in _constants(models[0], weights):
        before, after = (_constant(side, where) for side in nodes)
        changed = list(_differences(before, after))
        origin = _origin(nodes[0], where[0]) if changed else 0
        nearest = sorted((abs(address[0] - origin), address) for address in moved) if changed else []
        for index, old, new in changed:
            found = _explain(old, new, sizes, nearest)
            if found is None:
                operator = sizes[0].structure[origin]
                raise NotUnderstoodError(f"{nodes[0][where[0]].op_type} of {operator} has a size of unknown origin.")
            yield Slot(where, index, *found)


def _differences(before: Array, after: Array) -> Iterator[tuple[int | Literal["length"], Fraction, Fraction]]:
    if before.shape != after.shape:
        yield "length", Fraction(before.size), Fraction(after.size)
    else:
        for index in np.flatnonzero(before.ravel() != after.ravel()):
            yield int(index), Fraction(float(before.flat[index])), Fraction(float(after.flat[index]))


def _origin(nodes: list[onnx_ir.Node], position: int) -> int:
    """Position in the captured graph of what became this node; the nearest before it that is known."""
    tags = (node.metadata_props.get(TAG, "") for node in reversed(nodes[: position + 1]))
    return next((int(tag) for tag in tags if tag.isdigit()), 0)


def _explain(
    old: Fraction, new: Fraction, sizes: Sequence[Sizes], nearest: Sequence[tuple[int, Address]]
) -> tuple[Address, Fraction] | None:
    """The nearest number that changed in the same ratio."""
    for _, address in nearest:
        was, now = (Fraction(side.numbers[address]) for side in sizes)
        if was and old * now == new * was:
            return address, old / was
    return None
