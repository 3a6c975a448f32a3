"""LiteRT models (TensorFlow Lite's format), by litert-torch; INT8 by the AI Edge Quantizer."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

from autoprune.compress.quantize import CALIBRATION_SAMPLES, first_samples
from autoprune.errors import StageError
from autoprune.export.formats._base import Format, artifact_of, refused
from autoprune.export.formats._silence import silence
from autoprune.records import Artifact

if TYPE_CHECKING:
    import numpy as np
    from torch import Tensor, nn

    from autoprune.export.formats._base import Calibration
    from autoprune.hardware import Precision

SIGNATURE = "serving_default"  # what litert-torch calls the model's only function; its inputs are args_0, args_1...


class TfliteFormat(Format):
    """A ``.tflite`` of a fixed batch, that of the inputs: the converter bakes sizes in.

    INT8: weights symmetric and per channel, activations with the range seen in at most ``CALIBRATION_SAMPLES`` samples;
    inputs and outputs stay FP32, so that a model is called alike in every precision.
    """

    suffix = ".tflite"
    runtime = "LiteRT"
    imports = "from ai_edge_litert.interpreter import Interpreter"
    use = """\
interpreter = Interpreter(str({model}))
interpreter.allocate_tensors()
for detail, value in zip(interpreter.get_input_details(), inputs):
    interpreter.set_tensor(detail["index"], value)
interpreter.invoke()
outputs = [interpreter.get_tensor(detail["index"]) for detail in interpreter.get_output_details()]"""

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
        if precision not in ("fp32", "int8"):
            raise StageError(f"LiteRT models are made in fp32 and int8, not in {precision}.", kind="export")
        with silence():
            try:
                data = _converted(module, inputs)
            except Exception as error:
                raise refused(cls.runtime, error) from error
            if precision == "int8":
                data = _quantized(data, inputs, calibration)
        return artifact_of(data, path, precision)


def _converted(module: nn.Module, inputs: tuple[Tensor, ...]) -> bytes:
    import litert_torch
    import torch

    with torch.no_grad(), tempfile.TemporaryDirectory(prefix="autoprune-") as folder:
        litert_torch.config.show_progress = False
        path = Path(folder) / "model.tflite"
        litert_torch.convert(module, inputs).export(str(path))
        return path.read_bytes()


def _quantized(data: bytes, inputs: tuple[Tensor, ...], calibration: Calibration) -> bytes:
    """Raises StageError."""
    from ai_edge_quantizer import calibrator, quantizer
    from ai_edge_quantizer.utils import qsv_utils

    feeds = {SIGNATURE: [_feed(batch) for batch in _of_size(len(inputs[0]), calibration)]}
    recipe = _recipe()
    try:
        # the quantizer's own calibration averages ranges over batches, which clips what a few samples reach
        ranges = calibrator.Calibrator(data, num_threads=1, qsv_update_func=qsv_utils.min_max_update)
        ranges.calibrate(feeds, recipe)
        quantizing = quantizer.Quantizer(bytearray(data), recipe.get_quantization_recipe())
        return bytes(quantizing.quantize(ranges.get_model_qsvs()).quantized_model)
    except Exception as error:
        raise StageError(f"INT8 quantisation failed: {error}.", kind="quantize") from error


def _recipe() -> Any:
    """INT8 weights and activations, between inputs and outputs in FP32."""
    from ai_edge_quantizer import recipe_manager
    from ai_edge_quantizer.recipe import AlgorithmName, TFLOperationName

    found = recipe_manager.RecipeManager()
    found.add_static_config(
        regex=".*", operation_name=TFLOperationName.ALL_SUPPORTED, activation_num_bits=8, weight_num_bits=8
    )
    for end in (TFLOperationName.INPUT, TFLOperationName.OUTPUT):
        found.add_quantization_config(regex=".*", operation_name=end, algorithm_key=AlgorithmName.NO_QUANTIZE)
    return found


def _feed(batch: tuple[np.ndarray, ...]) -> dict[str, Any]:
    return {f"args_{position}": array for position, array in enumerate(batch)}


def _of_size(size: int, calibration: Calibration) -> list[tuple[np.ndarray, ...]]:
    """Calibration samples in batches of the model's size; the last one repeats its samples."""
    import numpy as np

    whole = [np.concatenate(arrays) for arrays in zip(*first_samples(calibration, CALIBRATION_SAMPLES), strict=True)]
    parts = [[array[start : start + size] for array in whole] for start in range(0, len(whole[0]), size)]
    return [tuple(np.resize(array, (size, *array.shape[1:])) for array in part) for part in parts]


FORMAT = TfliteFormat
