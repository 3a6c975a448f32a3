"""ExecuTorch programs whose operators run in XNNPACK where it has them, else in ExecuTorch's portable kernels."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from autoprune.compress.quantize import CALIBRATION_SAMPLES, first_samples
from autoprune.errors import StageError
from autoprune.export.formats._base import Format, artifact_of, refused
from autoprune.export.formats._silence import silence
from autoprune.export.onnx import capture_program
from autoprune.records import Artifact

if TYPE_CHECKING:
    from torch import Tensor, nn
    from torch.export import ExportedProgram

    from autoprune.export.formats._base import Calibration
    from autoprune.hardware import Precision


class ExecuTorchFormat(Format):
    """A ``.pte`` of a fixed batch: that of the inputs, because XNNPACK takes more operators of fixed shapes.

    INT8 by PT2E: weights symmetric and per channel, activations asymmetric with the range seen in at most
    ``CALIBRATION_SAMPLES`` samples; BatchNorm is folded first. Source: the ExecuTorch documentation, "XNNPACK Backend".
    """

    suffix = ".pte"
    runtime = "ExecuTorch"
    imports = "import torch\nfrom executorch.runtime import Runtime"
    use = """\
method = Runtime.get().load_program({model}).load_method("forward")
outputs = [output.numpy() for output in method.execute([torch.from_numpy(value) for value in inputs])]"""

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
        import torch

        with silence(), torch.no_grad():
            if precision == "int8":
                module = _quantized(module, inputs, calibration)
            elif precision != "fp32":
                raise StageError(f"ExecuTorch models are made in fp32 and int8, not in {precision}.", kind="export")
            try:
                data = _lowered(torch.export.export(module, inputs))
            except Exception as error:
                raise refused(cls.runtime, error) from error
        return artifact_of(data, path, precision)


def _lowered(program: ExportedProgram) -> bytes:
    from executorch.backends.xnnpack.partition.xnnpack_partitioner import XnnpackPartitioner
    from executorch.exir import to_edge_transform_and_lower

    return bytes(to_edge_transform_and_lower(program, partitioner=[XnnpackPartitioner()]).to_executorch().buffer)


def _quantized(module: nn.Module, inputs: tuple[Tensor, ...], calibration: Calibration) -> nn.Module:
    """``module`` between fake quantisers, as XNNPACK's partitioner knows them. Raises StageError."""
    import torch
    from executorch.backends.xnnpack.quantizer.xnnpack_quantizer import (
        XNNPACKQuantizer,
        get_symmetric_quantization_config,
    )
    from torchao.quantization.pt2e.quantize_pt2e import convert_pt2e, prepare_pt2e

    quantizer = XNNPACKQuantizer().set_global(get_symmetric_quantization_config(is_per_channel=True))
    try:
        prepared = prepare_pt2e(capture_program(module, inputs).module(), quantizer)
        for batch in first_samples(calibration, CALIBRATION_SAMPLES):
            prepared(*map(torch.from_numpy, batch))
        converted: nn.Module = convert_pt2e(prepared)
    except Exception as error:
        raise StageError(f"INT8 quantisation failed: {error}.", kind="quantize") from error
    return converted


FORMAT = ExecuTorchFormat
