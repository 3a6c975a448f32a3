"""Does the artifact compute what the module computes?"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.utils._pytree import tree_leaves

from autoprune.errors import StageError
from autoprune.hardware import Precision

Array = NDArray[Any]

TOLERANCE: dict[Precision, float] = {"fp32": 1e-4, "fp16": 2e-2, "int8": 0.5}
"""Largest accepted `parity`. FP32 differs by the order of additions; FP16 rounds to 11 bits, 5e-4, in every layer,
which adds up to some times that over tens of layers; INT8 is held to sanity, accuracy judges it."""


def parity(
    predict: Callable[[Sequence[Array]], Sequence[Array]],
    module: nn.Module,
    inputs: tuple[Tensor, ...],
    *,
    precision: Precision = "fp32",
) -> float:
    """Largest absolute difference between artifact and module, divided by the range (max - min) of the module's output.

    Args:
        predict: runs the artifact: arrays of the inputs -> arrays of the outputs, in the module's order.
        module: in evaluation mode.
        inputs: one batch; dimension 0 is the batch.
        precision: of the artifact; picks the tolerance from `TOLERANCE`.

    Raises:
        StageError: kind ``parity``: number or shape of outputs differ, a value is not finite where the module's is, or
            the difference is above the tolerance.
    """
    actual = predict([value.detach().cpu().numpy() for value in inputs])
    return deviation(actual, _outputs(module, inputs), precision=precision)


def deviation(actual: Sequence[Array], expected: Sequence[Array], *, precision: Precision = "fp32") -> float:
    """What `parity` finds, of outputs that were computed already. Raises as it does."""
    shapes = [value.shape for value in actual], [value.shape for value in expected]
    if shapes[0] != shapes[1]:
        raise StageError(
            f"The artifact's outputs have shapes {shapes[0]}, they should have {shapes[1]}.", kind="parity"
        )
    error = max(map(_difference, actual, expected), default=0.0)
    if not error <= TOLERANCE[precision]:  # true for NaN as well
        raise StageError(
            f"The {precision} artifact deviates from what it should compute by {error:.3g} of the outputs' range; "
            f"{TOLERANCE[precision]:g} is accepted.",
            kind="parity",
        )
    return error


def _outputs(module: nn.Module, inputs: tuple[Tensor, ...]) -> list[Array]:
    with torch.no_grad():
        return [value.detach().cpu().numpy() for value in tree_leaves(module(*inputs)) if isinstance(value, Tensor)]


def _difference(actual: Array, expected: Array) -> float:
    if expected.size == 0:
        return 0.0
    a, e = actual.astype(np.float64), expected.astype(np.float64)
    if not np.array_equal(np.isfinite(a), np.isfinite(e)):
        return float("nan")
    a, e = np.nan_to_num(a), np.nan_to_num(e)
    span = float(e.max() - e.min()) or max(abs(float(e.max())), 1.0)
    return float(np.abs(a - e).max()) / span
