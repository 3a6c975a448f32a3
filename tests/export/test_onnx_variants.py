"""Formats of ONNX files: one suffix, two ways to quantise."""

from pathlib import Path

import numpy as np
import onnx
import torch

from autoprune.export.formats import find_format, format_of
from autoprune.export.formats.onnx import OnnxFormat


def zero_points(path: Path) -> set[int]:
    graph = onnx.load(path).graph
    names = {node.input[2] for node in graph.node if node.op_type == "QuantizeLinear"}
    return {tensor.data_type for tensor in graph.initializer if tensor.name in names}


def test_int8_is_as_the_runtime_takes_it(tmp_path: Path) -> None:
    module = torch.nn.Sequential(torch.nn.Conv2d(3, 8, 3), torch.nn.ReLU()).eval()
    images = torch.randn(2, 3, 8, 8, generator=torch.Generator().manual_seed(0))
    wanted = {"onnx": {onnx.TensorProto.UINT8}, "onnx_tensorrt": {onnx.TensorProto.INT8}}
    for name, kinds in wanted.items():
        artifact = find_format(name).write(
            module, (images,), tmp_path / f"{name}.onnx", precision="int8", calibration=[(np.asarray(images),)]
        )
        assert artifact.precision == "int8"
        assert zero_points(artifact.path) == kinds


def test_weights_for_a_cpu_without_vnni_take_7_bits(tmp_path: Path) -> None:
    module = torch.nn.Sequential(torch.nn.Conv2d(3, 8, 3), torch.nn.ReLU()).eval()
    images = torch.randn(2, 3, 8, 8, generator=torch.Generator().manual_seed(0))
    old, new = ({"os": "Linux x86_64", "flags": flags} for flags in ("avx2", "avx2 avx512_vnni"))
    for name, facts, wanted in (("onnx", old, 64), ("onnx", new, 127), ("onnx_tensorrt", old, 127)):
        artifact = (
            find_format(name)
            .suited(facts)
            .write(module, (images,), tmp_path / "x.onnx", precision="int8", calibration=[(np.asarray(images),)])
        )
        arrays = map(onnx.numpy_helper.to_array, onnx.load(artifact.path).graph.initializer)
        assert max(np.abs(one.astype(int)).max() for one in arrays if one.dtype == np.int8 and one.ndim == 4) == wanted


def test_a_file_is_of_the_plainer_format() -> None:
    assert format_of(Path("model.onnx")) is OnnxFormat
