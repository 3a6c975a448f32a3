"""ONNX as TensorRT takes it."""

from collections.abc import Mapping

from autoprune.export.formats._base import Format
from autoprune.export.formats.onnx import OnnxFormat


class OnnxTensorRtFormat(OnnxFormat):
    """As ONNX Runtime's, but INT8 is symmetric: TensorRT knows no other, and reads biases in floating point alone."""

    symmetric = True

    @classmethod
    def suited(cls, facts: Mapping[str, str]) -> type[Format]:
        return cls


FORMAT = OnnxTensorRtFormat
