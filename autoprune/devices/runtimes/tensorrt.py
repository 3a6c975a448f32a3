"""TensorRT on an NVIDIA GPU, through its Python package."""

import json
from typing import Any

from autoprune.devices._base import OperatorTime
from autoprune.devices.lease import GPU
from autoprune.devices.local import LocalDevice
from autoprune.devices.runtimes._layers import layer_times
from autoprune.hardware import HardwareProfile
from autoprune.records import Artifact

BUILD_SECONDS = 1200.0


class TensorRtDevice(LocalDevice):
    """TensorRT 10.3 to 11. Strongly typed: FP16 and INT8 are what the ONNX file says, and FP32 is not TF32.

    The engine is built on the device, once, and kept with its circumstances. An inference is timed between CUDA events,
    the next one begun when the GPU is done with the last; with ``options.cuda_graph`` it is one launch.
    """

    runtime = runner = "tensorrt"
    needs = "tensorrt"
    install = (
        "pip install tensorrt, from the index that NVIDIA's installation guide names; "
        "on a Jetson it is part of JetPack: apt install python3-libnvinfer"
    )
    options = frozenset({"cuda_graph", "workspace_mb"})
    deadline_s = BUILD_SECONDS
    format = "onnx_tensorrt"

    @classmethod
    def leased(cls, profile: HardwareProfile) -> str:
        return GPU

    @classmethod
    def settings(cls, profile: HardwareProfile) -> dict[str, Any]:
        return {**super().settings(profile), "sparse": profile.capabilities.may_be("2:4")}

    @classmethod
    def operators(cls, profile: bytes, artifact: Artifact) -> list[OperatorTime]:
        told = json.loads(profile)
        return layer_times(told["times"], told["layers"])


DEVICE = TensorRtDevice
