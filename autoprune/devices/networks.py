"""Small networks to probe a device with, in the format that it takes."""

import hashlib
import math
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from autoprune.records import Artifact

if TYPE_CHECKING:
    from onnx import ModelProto
    from torch import nn

ONNX = "onnx"


def network(path: Path, format: str, *, width: int, kernel: int, layers: int, size: int) -> Artifact:
    """A chain of convolutions with ReLU, the same one in every format: ``path`` with its suffix.

    It takes (1, width, size, size) and gives that. ONNX is written by hand, in milliseconds; what else there is, by its
    exporter, in about a second. Raises StageError where that fails.
    """
    model = convolutions(width, kernel=kernel, layers=layers, size=size)
    if format.startswith(ONNX):
        content, path = model.SerializeToString(), path.with_name(f"{path.name}.onnx")
        path.write_bytes(content)
        digest = hashlib.sha256(content).hexdigest()
        return Artifact(path=path, precision="fp32", sha256=digest, size_bytes=len(content))
    import torch

    from autoprune.export.formats import find_format

    found = find_format(format)
    path = path.with_name(path.name + found.suffix)
    return found.write(_module(model), (torch.zeros(1, width, size, size),), path)


def convolutions(width: int, *, kernel: int, layers: int, size: int) -> "ModelProto":
    """The chain with input and output (n, width, size, size) and random weights."""
    from onnx import TensorProto, helper, numpy_helper

    generator = np.random.default_rng(0)
    nodes, weights, last = [], [], "input"
    for layer in range(layers):
        weight = generator.normal(0, math.sqrt(2 / (width * kernel**2)), (width, width, kernel, kernel))
        weights.append(numpy_helper.from_array(weight.astype(np.float32), f"weight{layer}"))
        padding = [kernel // 2] * 4
        nodes.append(
            helper.make_node("Conv", [last, f"weight{layer}"], [f"conv{layer}"], name=f"conv{layer}", pads=padding)
        )
        last = f"relu{layer}"
        nodes.append(helper.make_node("Relu", [f"conv{layer}"], [last], name=last))
    shape: list[str | int | None] = ["n", width, size, size]
    ends = [helper.make_tensor_value_info(name, TensorProto.FLOAT, shape) for name in ("input", last)]
    graph = helper.make_graph(nodes, "convolutions", ends[:1], ends[1:], weights)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)


def _module(model: "ModelProto") -> "nn.Module":
    """The chain with the weights of ``model``."""
    import torch
    from onnx import numpy_helper
    from torch import nn

    chain = nn.Sequential()
    for tensor in model.graph.initializer:
        weight = torch.from_numpy(numpy_helper.to_array(tensor).copy())
        width, _, kernel, _ = weight.shape
        layer = nn.Conv2d(width, width, kernel, padding=kernel // 2, bias=False)
        layer.weight.data = weight
        chain.extend([layer, nn.ReLU()])
    return chain.eval()
