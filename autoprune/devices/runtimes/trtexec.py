"""TensorRT on an NVIDIA GPU, through its command line tool."""

import os
import shutil
from contextlib import AbstractContextManager

from autoprune.devices._base import Predict
from autoprune.devices.runners.trtexec import USUAL
from autoprune.devices.runtimes.onnxruntime import OnnxRuntimeDevice
from autoprune.devices.runtimes.tensorrt import TensorRtDevice
from autoprune.hardware import RuntimeOptions
from autoprune.records import Artifact


class TrtexecDevice(TensorRtDevice):
    """``trtexec`` of TensorRT 10.3 to 11, for devices whose Python has no ``tensorrt``: engines as there.

    It puts the next inference on the GPU before the last one is done, so that its times are those of a busy GPU, and
    not comparable with those of runtime ``tensorrt``. Accuracy is scored by ONNX Runtime on this machine: trtexec is a
    process a batch.
    """

    runtime = runner = "trtexec"
    needs = "trtexec"
    install = "part of TensorRT: apt install libnvinfer-bin"
    options = frozenset({"cuda_graph", "workspace_mb", "trtexec"})
    anew = True

    @classmethod
    def missing(cls, options: RuntimeOptions) -> str:
        if shutil.which(options.trtexec or "trtexec") or (not options.trtexec and os.path.exists(USUAL)):
            return ""
        where = options.trtexec or f"on the PATH or at {USUAL}"
        return f"there is no trtexec {where}; it is {cls.install}, or say where it is in options.trtexec"

    def scorer(self, artifact: Artifact) -> AbstractContextManager[Predict]:
        return OnnxRuntimeDevice(self.profile).predictor(artifact)


DEVICE = TrtexecDevice
