"""ONNX, quantised by ONNX Runtime."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

from autoprune.compress.half import halve_onnx
from autoprune.compress.quantize import quantize_onnx, saturates
from autoprune.export.fast import Exporter
from autoprune.export.formats._base import Format
from autoprune.export.onnx import export_fresh
from autoprune.records import Artifact

if TYPE_CHECKING:
    from torch import Tensor, nn

    from autoprune.export.formats._base import Calibration
    from autoprune.graph.model import Keep, PrunableGraph
    from autoprune.hardware import Precision


class OnnxFormat(Format):
    """One file with a dynamic batch; candidates by the fast path of `Exporter`."""

    suffix = ".onnx"
    runtime = "ONNX Runtime"
    imports = "import onnxruntime"
    use = """\
session = onnxruntime.InferenceSession({model})
names = [node.name for node in session.get_inputs()]
outputs = session.run(None, dict(zip(names, inputs)))"""
    symmetric: ClassVar[bool] = False
    """Whether INT8 activations are signed, around zero; see `quantize_onnx`."""
    reduce_range: ClassVar[bool] = False
    """Whether INT8 weights take 7 bits; see `quantize_onnx`."""

    def __init__(self, graph: PrunableGraph, inputs: tuple[Tensor, ...], workdir: Path) -> None:
        super().__init__(graph, inputs, workdir)
        self._exporter = Exporter(graph, inputs, workdir)

    @classmethod
    def suited(cls, facts: Mapping[str, str]) -> type[Format]:
        """7 bits are for what computes 8-bit products as ONNX Runtime's CPU does: no subclass of this."""
        return ReducedRangeOnnxFormat if cls is OnnxFormat and saturates(facts) else cls

    @classmethod
    def write(
        cls,
        module: nn.Module,
        inputs: tuple[Tensor, ...],
        path: Path,
        *,
        precision: Precision = "fp32",
        calibration: Calibration = (),
    ) -> Artifact:
        return cls.in_precision(export_fresh(module, inputs, path), precision, calibration)

    def candidate(
        self,
        module: nn.Module,
        path: Path,
        *,
        precision: Precision = "fp32",
        calibration: Calibration = (),
        keep: Keep | None = None,
    ) -> Artifact:
        return self.in_precision(self._exporter.export(module, path, keep=keep), precision, calibration)

    @classmethod
    def in_precision(cls, artifact: Artifact, precision: Precision, calibration: Calibration) -> Artifact:
        """An FP32 artifact, converted where it lies. Raises StageError of kind ``quantize``."""
        path = artifact.path
        if precision == "fp32":
            return artifact
        elif precision == "fp16":
            halve_onnx(path, path)
        else:
            quantize_onnx(path, path, calibration, symmetric=cls.symmetric, reduce_range=cls.reduce_range)
        digest = hashlib.sha256(path.read_bytes()).hexdigest()
        return Artifact(path=path, precision=precision, sha256=digest, size_bytes=path.stat().st_size)


class ReducedRangeOnnxFormat(OnnxFormat):
    """For a CPU whose sums of 8-bit products overflow."""

    reduce_range = True


FORMAT = OnnxFormat
