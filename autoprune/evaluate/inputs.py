"""Inputs as the runtimes take them."""

from __future__ import annotations

import numpy as np
from torch import Tensor

from autoprune.compress.batches import seeded, take
from autoprune.task import Task

CALIBRATION_SAMPLES = 128


def as_arrays(inputs: Tensor | tuple[Tensor, ...]) -> tuple[np.ndarray, ...]:
    """Inputs of one batch as the runtimes take them."""
    tensors = (inputs,) if isinstance(inputs, Tensor) else inputs
    return tuple(tensor.numpy() for tensor in tensors)


def timing_inputs(task: Task, batch: int) -> list[np.ndarray]:
    """The task's example inputs, repeated or cut to ``batch`` samples."""
    return [np.resize(array, (batch, *array.shape[1:])) for array in as_arrays(task.example_inputs)]


def calibration(task: Task) -> list[tuple[np.ndarray, ...]]:
    """Inputs of the first training samples, the same ones in every process."""
    with seeded(0):
        batches = take(task, CALIBRATION_SAMPLES, batch=CALIBRATION_SAMPLES)
    return [as_arrays(inputs) for inputs, _ in batches]
