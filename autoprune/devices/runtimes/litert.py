"""LiteRT, formerly TensorFlow Lite, on the CPU."""

from autoprune.devices._base import OperatorTime
from autoprune.devices.local import LocalDevice
from autoprune.records import Artifact


class LiteRtDevice(LocalDevice):
    """The interpreter with the XNNPACK delegate, which it applies by itself; ``options.threads`` threads for timing."""

    runtime = runner = "litert"
    format = "tflite"
    needs = "ai_edge_litert"
    converts = "litert_torch"
    install = "pip install 'autoprune[mobile]'"
    imports = ("numpy", "ai_edge_litert.interpreter")

    @classmethod
    def operators(cls, profile: bytes, artifact: Artifact) -> list[OperatorTime]:
        """None: its Python package has no profiler."""
        return []


DEVICE = LiteRtDevice
