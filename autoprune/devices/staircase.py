"""The channel staircase: the widths at which the latency of convolutions steps, measured on the device.

Vector units compute whole registers, so that 57 channels can cost as much as 64, or more. The probe times short chains
of 3x3 and 1x1 convolutions over a range of widths, interleaved, and finds the greatest multiple such that the widths
between save next to nothing.
"""

import contextlib
import math
import tempfile
from collections import defaultdict
from collections.abc import Mapping
from pathlib import Path

import numpy as np
from pydantic import PositiveFloat, PositiveInt

from autoprune.devices._base import Device
from autoprune.devices._probes import probed
from autoprune.devices.networks import network
from autoprune.devices.timing import measure_together
from autoprune.documents import Strict
from autoprune.hardware import TimingPolicy

MULTIPLES = (32, 16, 8, 4, 2)
WIDTHS = (32, 36, 40, 44, 45, 46, 47, 48, 52, 56, 60, 61, 62, 63, 64, 72, 80, 88, 96)
KERNELS = (3, 1)
LAYERS, SIZE = 2, 8
STEPS = 0.5  # a multiple holds when widths between save less than this part of what smooth scaling would
SCALES = 0.5  # latency grows at least with this power of the width, or it is overhead that was timed
POLICY = TimingPolicy(warmup_ms=2, blocks=6, block_ms=1, settle_percent=30, max_seconds=6, tolerate_percent=0)


class Staircase(Strict):
    """Latency by kernel and width, and the multiple read from it; 1 when nothing steps."""

    multiple: PositiveInt
    latency_ms: Mapping[str, Mapping[int, PositiveFloat]]


def staircase(device: Device) -> Staircase:
    """The staircase of ``device``, measured once per fingerprint and settings, then read from the cache.

    Raises:
        StageError: kind ``unsettled``, ``runtime``: it could not be measured.
    """
    return probed(device, "staircases", Staircase, probe)


def probe(device: Device) -> Staircase:
    """Measure the staircase now. Raises as `staircase`."""
    with tempfile.TemporaryDirectory() as folder, contextlib.ExitStack() as opened:
        sessions = {}
        for kernel in KERNELS:
            for width in WIDTHS:
                path = Path(folder) / f"{kernel}-{width}"
                artifact = network(path, device.format, width=width, kernel=kernel, layers=LAYERS, size=SIZE)
                inputs = [np.ones((1, width, SIZE, SIZE), np.float32)]
                sessions[f"{kernel} {width}"] = opened.enter_context(device.open(artifact, inputs))
        circumstances = device.circumstances("fp32")
        measured = measure_together(sessions, POLICY, dict.fromkeys(sessions, circumstances))
    latency_ms = {
        f"{kernel}x{kernel}": {width: measured[f"{kernel} {width}"].median_ms for width in WIDTHS} for kernel in KERNELS
    }
    return Staircase(multiple=find_multiple(latency_ms), latency_ms=latency_ms)


def find_multiple(latency_ms: Mapping[str, Mapping[int, float]]) -> int:
    """The greatest of ``MULTIPLES`` that holds over all kernels, or 1.

    A multiple holds when no kind of width between saves against the next multiple above, where a kind are the widths
    with the same power of two in them. What they save is compared with smooth scaling: latency as that power of the
    width that joins the narrowest and the widest.
    """
    powers = {name: _power(stairs) for name, stairs in latency_ms.items()}
    if min(powers.values()) < SCALES:
        return 1
    return next((multiple for multiple in MULTIPLES if _holds(multiple, latency_ms, powers)), 1)


def _power(stairs: Mapping[int, float]) -> float:
    first, last = min(stairs), max(stairs)
    return math.log(stairs[last] / stairs[first]) / math.log(last / first)


def _holds(multiple: int, latency_ms: Mapping[str, Mapping[int, float]], powers: Mapping[str, float]) -> bool:
    saved: dict[int, float] = defaultdict(float)
    for name, stairs in latency_ms.items():
        for width in stairs:
            above = -(-width // multiple) * multiple
            kind = math.gcd(width, multiple)
            if above != width:
                smooth = powers[name] * math.log(above / width)
                saved[kind] += math.log(stairs[above] / stairs[width]) - STEPS * smooth
    return all(difference < 0 for difference in saved.values())
