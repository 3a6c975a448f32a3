"""What a device makes of narrower numbers and of zeros: a small network, timed in every precision and sparsity.

A precision that the runtime takes may still be slower than FP32 (no instructions for it, conversions around every
operator), and zeros save nothing where no kernel skips them. Both are told from the network that `smoke` uses.
"""

import contextlib
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import get_args

import numpy as np
from pydantic import PositiveFloat

from autoprune.devices._base import Arrays, Circumstances, Device, Session
from autoprune.devices._probes import probed
from autoprune.devices.networks import network
from autoprune.devices.runtimes.onnxruntime import OnnxRuntimeDevice
from autoprune.devices.smoke import LAYERS, SIZE, WIDTH
from autoprune.devices.timing import measure_together
from autoprune.documents import Strict
from autoprune.errors import StageError
from autoprune.hardware import Precision, Sparsity, TimingPolicy
from autoprune.records import Artifact

FP32: Precision = "fp32"
PRECISIONS: tuple[Precision, ...] = get_args(Precision)  # FP32 is the first
VARIANTS: tuple[tuple[Precision, Sparsity | None], ...] = (
    ("fp32", None),
    ("fp32", "2:4"),
    ("fp32", "unstructured"),
    ("fp16", None),
    ("fp16", "2:4"),  # not every device knows zeros in FP32; those in INT8 are like these
    ("fp16", "unstructured"),
    ("int8", None),
)
PAYS = 1.05  # times as fast as dense FP32
POLICY = TimingPolicy(warmup_ms=10, blocks=7, block_ms=5, settle_percent=10, max_seconds=30, tolerate_percent=0)


class Gains(Strict):
    """How many times as fast: a precision than FP32, zeros than none in the precision where they help most.

    What does not run, or computes something else, is ``refused``, with the reason.
    """

    speedup: Mapping[Precision | Sparsity, PositiveFloat]
    refused: Mapping[Precision, str]

    @property
    def precisions(self) -> tuple[Precision, ...]:
        """FP32, and those that pay."""
        return tuple(one for one in get_args(Precision) if one == FP32 or self.speedup.get(one, 0.0) >= PAYS)

    @property
    def sparsity(self) -> tuple[Sparsity, ...]:
        """The patterns that pay."""
        return tuple(one for one in get_args(Sparsity) if self.speedup.get(one, 0.0) >= PAYS)


def gains(device: Device) -> Gains:
    """Of ``device``, measured once per fingerprint and settings, then read from the cache.

    Raises:
        StageError: kind ``unsettled``, ``runtime``: FP32 could not be measured.
    """
    return probed(device, "gains", Gains, probe)


def probe(device: Device) -> Gains:
    """Measure them now. Raises as `gains`."""
    inputs = [np.random.default_rng(0).normal(size=(1, WIDTH, SIZE, SIZE)).astype(np.float32)]
    refused: dict[Precision, str] = {}
    sessions: dict[str, Session] = {}
    circumstances: dict[str, Circumstances] = {}
    with tempfile.TemporaryDirectory() as folder, contextlib.ExitStack() as opened:
        for precision, zeros in VARIANTS:
            if precision not in refused:
                name = f"{precision} {zeros}"
                try:
                    artifact = _made(Path(folder) / str(len(sessions)), device, precision, zeros)
                    _check(device, artifact, zeros, inputs)
                    sessions[name] = opened.enter_context(device.open(artifact, inputs))
                except StageError as error:
                    if (precision, zeros) == VARIANTS[0]:
                        raise
                    if zeros is None:
                        refused[precision] = str(error)
                    continue
                circumstances[name] = device.circumstances(precision)
        timed = measure_together(sessions, POLICY, circumstances)
    return Gains(speedup=_speedup({name: one.median_ms for name, one in timed.items()}), refused=refused)


def _speedup(ms: Mapping[str, float]) -> dict[Precision | Sparsity, float]:
    found: dict[Precision | Sparsity, float] = {}
    for precision in PRECISIONS:
        dense = ms.get(f"{precision} None")
        if dense and precision != FP32:
            found[precision] = ms[f"{FP32} None"] / dense
        for zeros in get_args(Sparsity):
            if dense and f"{precision} {zeros}" in ms:
                found[zeros] = max(found.get(zeros, 0.0), dense / ms[f"{precision} {zeros}"])
    return found


def _made(path: Path, device: Device, precision: Precision, zeros: Sparsity | None) -> Artifact:
    return network(
        path,
        device.format,
        width=WIDTH,
        kernel=3,
        layers=LAYERS,
        size=SIZE,
        precision=precision,
        zeros=zeros,
        facts=device.facts(),
    )


def _check(device: Device, artifact: Artifact, zeros: Sparsity | None, inputs: Arrays) -> None:
    """Raise StageError where it computes something else than FP32 does here."""
    from autoprune.export.parity import deviation

    if device.computes:
        machine = OnnxRuntimeDevice.here()
        ours = _made(artifact.path.with_name("here"), machine, FP32, zeros)
        with device.predictor(artifact) as there, machine.predictor(ours) as here:
            deviation(there(inputs), here(inputs), precision=artifact.precision)
