"""Programs of ``torch.export``: what PyTorch itself runs."""

from __future__ import annotations

import copy
import hashlib
from pathlib import Path
from typing import TYPE_CHECKING, Any

from torch import Tensor, nn
from torch.utils._pytree import tree_map

from autoprune.errors import StageError
from autoprune.export.formats._base import Format
from autoprune.export.onnx import capture_program, quiet
from autoprune.records import Artifact

if TYPE_CHECKING:
    from autoprune.export.formats._base import Calibration
    from autoprune.hardware import Precision


class Pt2Format(Format):
    """A ``.pt2`` with a dynamic batch where the model takes one; inputs and outputs are FP32 in FP16 too.

    INT8 is not made: PyTorch has operators for it, but none that runs a quantised network on all processors.
    """

    suffix = ".pt2"
    runtime = "PyTorch"
    imports = "import torch"
    use = """\
found = torch.export.load({model}).module()(*map(torch.from_numpy, inputs))
outputs = [value.numpy(force=True) for value in (found if isinstance(found, tuple | list) else [found])]"""

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
        if precision not in ("fp32", "fp16"):
            raise StageError(f"PyTorch's programs are made in fp32 and fp16, not in {precision}.", kind="export")
        save_program(_Half(module) if precision == "fp16" else module, inputs, path)
        data = path.read_bytes()
        digest = hashlib.sha256(data).hexdigest()
        return Artifact(path=path, precision=precision, sha256=digest, size_bytes=len(data))


class _Half(nn.Module):
    """A copy that computes in FP16 between inputs and outputs in FP32."""

    def __init__(self, module: nn.Module) -> None:
        super().__init__()
        self.module = copy.deepcopy(module).half()

    def forward(self, *inputs: Tensor) -> Any:
        return tree_map(lambda value: _cast(value, "float"), self.module(*(_cast(value, "half") for value in inputs)))


def _cast(value: Any, kind: str) -> Any:
    return getattr(value, kind)() if isinstance(value, Tensor) and value.is_floating_point() else value


def save_program(module: nn.Module, example_inputs: tuple[Tensor, ...], path: Path) -> None:
    """``torch.export.save`` without stack traces (they name the user's paths) and without the example inputs.

    Raises StageError: kind ``export``: the model cannot be exported.
    """
    import torch

    try:
        with quiet(), torch.no_grad():
            program = capture_program(module, example_inputs)
            for node in program.graph.nodes:
                node.meta.pop("stack_trace", None)
            program.example_inputs = None
            torch.export.save(program, path)
    except OSError:
        raise
    except Exception as error:
        raise StageError(f"The model cannot be saved as .pt2: {error}", kind="export") from error


FORMAT = Pt2Format
