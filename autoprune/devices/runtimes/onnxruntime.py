"""ONNX Runtime, on the CPU or by another of its execution providers."""

import json

from autoprune.devices._base import OperatorTime
from autoprune.devices.lease import CPU, GPU
from autoprune.devices.local import LocalDevice
from autoprune.devices.runtimes._profile import blocked_names, operator_times
from autoprune.hardware import HardwareProfile
from autoprune.records import Artifact


class OnnxRuntimeDevice(LocalDevice):
    """One execution provider, the CPU's unless ``options.provider`` says another; ``options.threads`` for timing.

    Sequential, all graph optimisations. With more than one thread the pool spins while it waits (ONNX Runtime's
    default, recorded in the conditions) unless ``options.spinning`` is false. Processor affinity is left alone: a
    thread that is pinned cannot evade other work.
    """

    runtime = runner = "onnxruntime"
    needs = "onnxruntime"
    install = "pip install onnxruntime"
    imports = ("numpy", "onnxruntime")
    options = frozenset({"provider", "spinning"})

    @classmethod
    def leased(cls, profile: HardwareProfile) -> str:
        return GPU if profile.options.provider in ("cuda", "tensorrt") else CPU

    @classmethod
    def operators(cls, profile: bytes, artifact: Artifact) -> list[OperatorTime]:
        return operator_times(json.loads(profile), blocked_names(artifact.path))


DEVICE = OnnxRuntimeDevice
