"""Small networks to probe a device with, in the format that it takes."""

import hashlib
import math
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING

import numpy as np

from autoprune.records import Artifact

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from onnx import ModelProto
    from torch import nn

    from autoprune.export.formats._base import Calibration
    from autoprune.hardware import Precision, Sparsity

ONNX = "onnx"
UNKNOWN: Mapping[str, str] = MappingProxyType({})
KEPT = 0.1  # of the weights where zeros have no pattern


def network(
    path: Path,
    format: str,
    *,
    width: int,
    kernel: int,
    layers: int,
    size: int,
    precision: "Precision" = "fp32",
    zeros: "Sparsity | None" = None,
    facts: Mapping[str, str] = UNKNOWN,
) -> Artifact:
    """A chain of convolutions with ReLU, the same one in every format: ``path`` with its suffix.

    It takes (1, width, size, size) and gives that. ONNX is written by hand, in milliseconds; what else there is, by its
    exporter, in about a second. ``zeros`` is the pattern of those in the weights: half of them, or nine in ten where
    there is no pattern; ``facts`` are those of the device. Raises StageError where a format or its precision fails.
    """
    model = convolutions(width, kernel=kernel, layers=layers, size=size, zeros=zeros)
    calibration = [(np.random.default_rng(0).normal(size=(8, width, size, size)).astype(np.float32),)]
    if format.startswith(ONNX):
        content, path = model.SerializeToString(), path.with_name(f"{path.name}.onnx")
        path.write_bytes(content)
        digest = hashlib.sha256(content).hexdigest()
        artifact = Artifact(path=path, precision="fp32", sha256=digest, size_bytes=len(content))
        if precision == "fp32":
            return artifact
        return _converted(artifact, format, facts=facts, precision=precision, calibration=calibration)
    import torch

    from autoprune.export.formats import find_format

    found, inputs = find_format(format).suited(facts), (torch.zeros(1, width, size, size),)
    path = path.with_name(path.name + found.suffix)
    return found.write(_module(model), inputs, path, precision=precision, calibration=calibration)


def _converted(
    artifact: Artifact, format: str, *, facts: Mapping[str, str], precision: "Precision", calibration: "Calibration"
) -> Artifact:
    from autoprune.export.formats import find_format
    from autoprune.export.formats.onnx import OnnxFormat

    found = find_format(format).suited(facts)
    assert issubclass(found, OnnxFormat)
    return found.in_precision(artifact, precision, calibration)


def convolutions(width: int, *, kernel: int, layers: int, size: int, zeros: "Sparsity | None" = None) -> "ModelProto":
    """The chain with input and output (n, width, size, size) and random weights, some of them ``zeros``."""
    from onnx import TensorProto, helper, numpy_helper

    generator = np.random.default_rng(0)
    nodes, weights, last = [], [], "input"
    for layer in range(layers):
        weight = generator.normal(0, math.sqrt(2 / (width * kernel**2)), (width, width, kernel, kernel))
        weight *= _mask(weight.shape, zeros, generator)
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


def _mask(shape: tuple[int, ...], zeros: "Sparsity | None", generator: np.random.Generator) -> "NDArray[np.bool_]":
    """Which weights stay; of four consecutive input channels, two."""
    if zeros == "2:4":
        return np.broadcast_to((np.arange(shape[1]) % 4 < 2)[None, :, None, None], shape)
    return generator.random(shape) < (KEPT if zeros else 1.0)


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
