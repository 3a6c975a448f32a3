"""Profiles of ONNX Runtime, read: what every node of the graph costs."""

import statistics
from collections import defaultdict
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from autoprune.devices._base import OperatorTime

KERNEL, BLOCKED = "_kernel_time", "_nchwc"


def operator_times(events: Iterable[Mapping[str, Any]], names: Mapping[tuple[str, str], str]) -> list[OperatorTime]:
    """Median per node, in the order of execution.

    Args:
        events: of the profile, a Chrome trace: those of category ``Node`` carry ``dur`` in microseconds.
        names: of `blocked_names`.
    """
    durations: dict[tuple[str, str, str], list[float]] = defaultdict(list)
    for event in events:
        if event.get("cat") == "Node" and event["name"].endswith(KERNEL):
            name, arguments = event["name"].removesuffix(KERNEL), event["args"]
            durations[name, arguments["op_name"], arguments.get("node_index", "")].append(event["dur"])
    return [
        OperatorTime(names.get((name, op_type), name), op_type, statistics.median(times))
        for (name, op_type, _), times in durations.items()
    ]


def blocked_names(model: Path) -> dict[tuple[str, str], str]:
    """Name in the profile and operator -> name in the graph, for nodes in the blocked layout NCHWc.

    ONNX Runtime calls those after the tensor that they write, which may be that of an activation fused into them.
    """
    import onnx

    nodes = onnx.load_model(model, load_external_data=False).graph.node
    writers = {output: node for node in nodes for output in node.output}
    names: dict[tuple[str, str], str] = {}
    for tensor, writer in writers.items():
        found: onnx.NodeProto | None = writer
        while found is not None:
            names.setdefault((tensor + BLOCKED, found.op_type), found.name or found.output[0])
            found = writers.get(found.input[0]) if found.input and found.op_type != "Conv" else None
    return names
