"""ONNX Runtime on the CPU."""

import json

from autoprune.devices._base import OperatorTime
from autoprune.devices.local import LocalDevice
from autoprune.devices.runtimes._profile import blocked_names, operator_times
from autoprune.records import Artifact


class OnnxRuntimeDevice(LocalDevice):
    """The CPU execution provider: sequential, all graph optimisations, ``options.threads`` threads for timing.

    With more than one thread the pool spins while it waits (ONNX Runtime's default, recorded in the conditions).
    Processor affinity is left alone: a thread that is pinned cannot evade other work.
    """

    runtime = runner = "onnxruntime"
    needs = "onnxruntime"
    install = "pip install onnxruntime"
    imports = ("numpy", "onnxruntime")

    @classmethod
    def operators(cls, profile: bytes, artifact: Artifact) -> list[OperatorTime]:
        return operator_times(json.loads(profile), blocked_names(artifact.path))


DEVICE = OnnxRuntimeDevice
