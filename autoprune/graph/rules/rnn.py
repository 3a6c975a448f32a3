"""Recurrent layers. One operator runs all layers and directions, which share one hidden size."""

from __future__ import annotations

import numpy as np
from torch.fx import Node

from autoprune.graph.atoms import Axis
from autoprune.graph.coupling import Axes, Coupling
from autoprune.graph.nodes import argument, sizes
from autoprune.graph.rules._base import rule


@rule("lstm", "gru", "rnn_tanh", "rnn_relu")
def recurrent(coupling: Coupling, node: Node) -> list[Axes]:
    """Weights (gates x hidden, input) and (gates x hidden, hidden), per layer and direction."""
    states = argument(node, "hx")
    if _is_projected(node):
        return _whole(coupling, node)
    states = list(states) if isinstance(states, list | tuple) else [states]
    hidden = coupling.axes(states[0])[-1]
    size = sizes(states[0])[-1]
    if hidden is None and size is not None and size > 1:
        hidden = np.zeros(size, dtype=np.int64)
    for state in states:
        coupling.freeze(coupling.axes(state)[0])
        coupling.unify(hidden, coupling.axes(state)[-1])
    source = argument(node, "input")
    directions = 2 if argument(node, "bidirectional") else 1
    _layers(coupling, node, hidden, coupling.axes(source)[-1], directions)
    coupling.kind(hidden, "hidden")
    coupling.clean.add(node)
    lead = list(coupling.axes(source)[:-1])
    coupling.freeze(*lead)
    out: Axis = None if hidden is None else np.tile(hidden, directions)
    return [[*lead, out], *([None, None, hidden] for _ in states)]


def _layers(coupling: Coupling, node: Node, hidden: Axis, source: Axis, directions: int) -> None:
    per_cell = 4 if argument(node, "has_biases") else 2
    parameters = argument(node, "params")
    time = (argument(node, "input"), 1 if argument(node, "batch_first") else 0)
    for start in range(0, len(parameters), per_cell):
        cell = parameters[start : start + per_cell]
        inputs = _inputs(hidden, source, directions, first=start < directions * per_cell)
        for weight, axis in zip(cell[:2], inputs, strict=True):
            coupling.unify(coupling.axes(weight)[1], axis)
            coupling.cost(time, (weight, 0), (weight, 1))
        for tensor in cell:
            rows = coupling.axes(tensor)[0]
            coupling.unify(rows, _gates(rows, hidden))


def _inputs(hidden: Axis, source: Axis, directions: int, *, first: bool) -> tuple[Axis, Axis]:
    """What the input and the recurrent weights of a layer contract with."""
    if first:
        return source, hidden
    return (None if hidden is None else np.tile(hidden, directions)), hidden


def _gates(rows: Axis, hidden: Axis) -> Axis:
    """Each gate has all hidden units."""
    return None if rows is None or hidden is None else np.tile(hidden, len(rows) // len(hidden))


def _is_projected(node: Node) -> bool:
    """LSTM(proj_size=...) has one more weight per cell."""
    directions = 2 if argument(node, "bidirectional") else 1
    plain = (4 if argument(node, "has_biases") else 2) * directions * argument(node, "num_layers")
    return bool(len(argument(node, "params")) != plain)


def _whole(coupling: Coupling, node: Node) -> list[Axes]:
    coupling.freeze(*(axis for source in node.all_input_nodes for axis in coupling.axes(source)))
    coupling.block(node, "a recurrent layer with projections is not analysed")
    return [[None] * 3 for _ in node.meta["val"]]
