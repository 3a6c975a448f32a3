"""Recurrent layers. One operator runs all layers and directions, which share one hidden size."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from torch.fx import Node

from autoprune.graph.atoms import Axis
from autoprune.graph.rules._base import Axes, argument, rule, sizes

if TYPE_CHECKING:
    from autoprune.graph.analysis import Analysis


@rule("lstm", "gru", "rnn_tanh", "rnn_relu")
def recurrent(analysis: Analysis, node: Node) -> list[Axes]:
    """Weights (gates x hidden, input) and (gates x hidden, hidden), per layer and direction."""
    states = argument(node, "hx")
    states = list(states) if isinstance(states, list | tuple) else [states]
    hidden = analysis.axes(states[0])[-1]
    size = sizes(states[0])[-1]
    if hidden is None and size is not None and size > 1:
        hidden = np.zeros(size, dtype=np.int64)
    for state in states:
        analysis.freeze(analysis.axes(state)[0])
        analysis.unify(hidden, analysis.axes(state)[-1])
    source = argument(node, "input")
    directions = 2 if argument(node, "bidirectional") else 1
    _layers(analysis, node, hidden, analysis.axes(source)[-1], directions)
    analysis.kind(hidden, "hidden")
    analysis.clean.add(node)
    lead = list(analysis.axes(source)[:-1])
    analysis.freeze(*lead)
    out: Axis = None if hidden is None else np.tile(hidden, directions)
    return [[*lead, out], *([None, None, hidden] for _ in states)]


def _layers(analysis: Analysis, node: Node, hidden: Axis, source: Axis, directions: int) -> None:
    per_cell = 4 if argument(node, "has_biases") else 2
    parameters = argument(node, "params")
    cells = [parameters[start : start + per_cell] for start in range(0, len(parameters), per_cell)]
    terms = []
    for number, cell in enumerate(cells):
        for weight, axis in zip(cell, _inputs(hidden, source, directions, first=number < directions), strict=False):
            rows, columns = analysis.axes(weight)
            terms.append(weight)
            analysis.unify(rows, _gates(rows, hidden))
            analysis.unify(columns, axis)
        for bias in cell[2:]:
            (rows,) = analysis.axes(bias)
            analysis.unify(rows, _gates(rows, hidden))


def _inputs(hidden: Axis, source: Axis, directions: int, *, first: bool) -> tuple[Axis, Axis]:
    """What the input and the recurrent weights of a layer contract with."""
    if first:
        return source, hidden
    return (None if hidden is None else np.tile(hidden, directions)), hidden


def _gates(rows: Axis, hidden: Axis) -> Axis:
    """Each gate has all hidden units."""
    return None if rows is None or hidden is None else np.tile(hidden, len(rows) // len(hidden))
