"""ONNX as TensorRT takes it."""

from autoprune.export.formats.onnx import OnnxFormat


class OnnxTensorRtFormat(OnnxFormat):
    """As ONNX Runtime's, but INT8 is symmetric: TensorRT knows no other, and reads biases in floating point alone."""

    symmetric = True


FORMAT = OnnxTensorRtFormat
