"""PyTorch itself, on the CPU or an NVIDIA GPU."""

import json
import statistics
from collections import defaultdict
from typing import Any

from autoprune.devices._base import OperatorTime
from autoprune.devices.lease import CPU, GPU
from autoprune.devices.local import LocalDevice
from autoprune.hardware import HardwareProfile
from autoprune.records import Artifact


class TorchDevice(LocalDevice):
    """Eager, or through ``torch.compile``; on a GPU between CUDA events, with ``options.cuda_graph`` in one launch.

    FP32, and FP16 where the processor is good at it; FP32 is not TF32. Operators are timed one at a time, uncompiled.
    """

    runtime = runner = "torch"
    format = "pt2"
    needs = "torch"
    install = "pip install torch"
    imports = ("numpy", "torch")
    options = frozenset({"processor", "compiled", "cuda_graph"})
    deadline_s = 600.0

    @classmethod
    def leased(cls, profile: HardwareProfile) -> str:
        return GPU if profile.options.processor == "cuda" else CPU

    @classmethod
    def settings(cls, profile: HardwareProfile) -> dict[str, Any]:
        return {**super().settings(profile), "sparse": profile.capabilities.may_be("2:4")}

    @classmethod
    def operators(cls, profile: bytes, artifact: Artifact) -> list[OperatorTime]:
        microseconds: dict[tuple[str, str], list[float]] = defaultdict(list)
        for name, kind, time_us in json.loads(profile):
            microseconds[str(name), str(kind)].append(float(time_us))
        return [OperatorTime(*names, statistics.median(times)) for names, times in microseconds.items()]


DEVICE = TorchDevice
