"""Layer times of TensorRT, read: what every layer of the engine costs."""

import statistics
from collections import defaultdict
from collections.abc import Iterable, Mapping
from typing import Any

from autoprune.devices._base import OperatorTime

UNKNOWN = "layer"


def layer_times(times: Iterable[tuple[str, float]], layers: Mapping[str, Any]) -> list[OperatorTime]:
    """Median per layer, in the order of execution.

    Args:
        times: name and milliseconds of each layer in each run.
        layers: what the engine's inspector says: under ``Layers``, names alone or objects with ``Name``
            and ``LayerType``.
    """
    found = layers.get("Layers", [])
    kinds = {str(layer["Name"]): str(layer.get("LayerType", UNKNOWN)) for layer in found if isinstance(layer, Mapping)}
    milliseconds: dict[str, list[float]] = defaultdict(list)
    for name, ms in times:
        milliseconds[str(name)].append(float(ms))
    return [
        OperatorTime(name, kinds.get(name, UNKNOWN), 1e3 * statistics.median(values))
        for name, values in milliseconds.items()
    ]
