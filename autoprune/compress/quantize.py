"""Post-training INT8 quantisation of an ONNX artifact."""

from __future__ import annotations

import logging
import tempfile
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from autoprune.errors import StageError

if TYPE_CHECKING:
    import numpy as np

CALIBRATION_SAMPLES = 128
SYMMETRIC = {"ActivationSymmetric": True, "WeightSymmetric": True, "QuantizeBias": False}
SYMMETRIC_OPERATORS = ["Add", "AveragePool", "Conv", "ConvTranspose", "Gemm", "GlobalAveragePool", "MatMul", "MaxPool"]
CPU_PROVIDERS = ("CPUExecutionProvider", "XnnpackExecutionProvider")
X86 = ("x86_64", "amd64", "i386", "i686", "x86")
VNNI = {"avx512_vnni", "avx_vnni"}
CALIBRATION_BATCH = 16  # the calibrator keeps every activation of a batch: small ones stay in the cache (3x faster)


def quantize_onnx(
    source: Path,
    target: Path,
    calibration: Iterable[tuple[np.ndarray, ...]],
    *,
    symmetric: bool = False,
    reduce_range: bool = False,
) -> None:
    """Write ``target``: ``source`` with INT8 operators between QuantizeLinear and DequantizeLinear (QDQ).

    Weights are signed and per channel, activations unsigned with the range (minimum, maximum) seen in at most
    ``CALIBRATION_SAMPLES`` samples. BatchNorm is folded first; a dynamic batch stays dynamic. Source: the ONNX Runtime
    documentation, "Quantize ONNX models".

    TensorRT knows signed activations around zero alone, and biases that are not quantised: ``symmetric``. Source: its
    documentation, "Working with Quantized Types".

    Args:
        source: a single-file ONNX model.
        target: overwritten.
        calibration: batches of inputs, one array for each input of the model, dimension 0 being the batch.
        symmetric: activations as TensorRT takes them.
        reduce_range: weights of 7 bits, for a device that `saturates`.

    Raises:
        StageError: ``quantize`` when the runtime cannot quantise this model.
    """
    from onnxruntime.quantization import CalibrationMethod, QuantFormat, QuantType, quantize_static
    from onnxruntime.quantization.shape_inference import quant_pre_process

    with tempfile.TemporaryDirectory(prefix="autoprune-") as folder, _quiet():
        prepared = Path(folder) / "prepared.onnx"
        try:
            quant_pre_process(source, prepared, skip_symbolic_shape=True)
            quantize_static(
                prepared,
                target,
                _Reader(prepared, calibration),
                quant_format=QuantFormat.QDQ,
                per_channel=True,
                reduce_range=reduce_range,
                activation_type=QuantType.QInt8 if symmetric else QuantType.QUInt8,
                op_types_to_quantize=SYMMETRIC_OPERATORS if symmetric else None,
                extra_options=SYMMETRIC if symmetric else None,
                weight_type=QuantType.QInt8,
                calibrate_method=CalibrationMethod.MinMax,
            )
        except Exception as error:
            raise StageError(f"INT8 quantisation failed: {error}.", kind="quantize") from error


class _Reader:
    """Feeds batches to the calibrator, as dictionaries by input name."""

    def __init__(self, model: Path, batches: Iterable[tuple[np.ndarray, ...]]) -> None:
        import onnx

        names = [value.name for value in onnx.load(model, load_external_data=False).graph.input]
        self._feeds = (dict(zip(names, batch, strict=True)) for batch in first_samples(batches, CALIBRATION_SAMPLES))

    def get_next(self) -> dict[str, np.ndarray] | None:
        """The next batch, or None at the end."""
        return next(self._feeds, None)


def first_samples(batches: Iterable[tuple[np.ndarray, ...]], samples: int) -> Iterator[tuple[np.ndarray, ...]]:
    """The first samples in batches of at most ``CALIBRATION_BATCH``."""
    for batch in batches:
        size = min(samples, len(batch[0]))
        for start in range(0, size, CALIBRATION_BATCH):
            yield tuple(array[start : min(size, start + CALIBRATION_BATCH)] for array in batch)
        samples -= size
        if samples <= 0:
            return


def saturates(facts: Mapping[str, str]) -> bool:
    """Whether ONNX Runtime sums 8-bit products in 16 bits on a device of these `Device.facts`: weights overflow there.

    So it does on an x86 CPU without VNNI. Source: the ONNX Runtime documentation, "Quantize ONNX models": use
    ``reduce_range``. Where an x86 does not tell its flags, the safe answer is yes; of what tells nothing at all, no.
    """
    on_cpu = facts.get("provider", CPU_PROVIDERS[0]) in CPU_PROVIDERS
    x86 = facts.get("os", "").lower().endswith(X86)
    return on_cpu and x86 and not VNNI & set(facts.get("flags", "").split())


@contextmanager
def _quiet() -> Iterator[None]:
    """The quantiser logs advice and tracebacks meant for its own callers, through the root logger too."""
    previous = logging.root.manager.disable
    logging.disable(logging.ERROR)
    try:
        yield
    finally:
        logging.disable(previous)
