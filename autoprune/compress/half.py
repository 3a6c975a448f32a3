"""FP16 of an ONNX artifact."""

from __future__ import annotations

import warnings
from typing import TYPE_CHECKING

from autoprune.errors import StageError

if TYPE_CHECKING:
    from pathlib import Path


def halve_onnx(source: Path, target: Path) -> None:
    """Write ``target``: ``source`` with weights and arithmetic in FP16; inputs and outputs stay as they are.

    Operators that have no FP16 keep FP32, between casts. Weights beyond the range of FP16 take its largest value.
    Source: the converter that ships with ONNX Runtime, ``onnxruntime.transformers.float16``.

    Args:
        source: a single-file ONNX model.
        target: overwritten.

    Raises:
        StageError: ``convert`` when the model cannot be converted.
    """
    import onnx
    import onnx_ir
    from onnxruntime.transformers.float16 import convert_float_to_float16

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of weights that are clipped: parity judges
            model = onnx_ir.from_proto(convert_float_to_float16(onnx.load(source), keep_io_types=True))
        model.graph.sort()  # the converter appends its casts
        target.write_bytes(onnx_ir.to_proto(model).SerializeToString(deterministic=True))
    except Exception as error:
        raise StageError(f"Conversion to FP16 failed: {error}.", kind="convert") from error
