"""A bounded, reproducible part of the training split."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from autoprune.errors import TaskError

if TYPE_CHECKING:
    import torch
    from torch import Tensor, nn

    from autoprune.task import Batch, Task


@contextmanager
def seeded(seed: int) -> Iterator[None]:
    """Everything that draws from torch's global generator inside draws from this seed; the state outside is kept."""
    import torch

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        yield


def as_inputs(inputs: Tensor | tuple[Tensor, ...]) -> tuple[Tensor, ...]:
    """The positional inputs of one forward pass."""
    return tuple(inputs) if isinstance(inputs, (tuple, list)) else (inputs,)


def in_layout(inputs: tuple[Tensor, ...], layout: torch.memory_format) -> tuple[Tensor, ...]:
    """The same inputs, images in that layout."""
    return tuple(value.contiguous(memory_format=layout) if value.ndim == 4 else value for value in inputs)


def laid_out(model: nn.Module, inputs: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
    """Images with their channels last, where the model computes so (an exported ``view`` may need another layout).

    On a CPU passes of a ResNet then take two thirds of the time, and compute the same up to rounding.
    """
    import torch

    images = in_layout(inputs, torch.channels_last)
    try:
        with torch.no_grad():
            model.eval()(*(value[:2] for value in images))  # of one sample, more layouts are the same
    except RuntimeError:
        return inputs
    return images


def take(task: Task, samples: int, *, batch: int) -> list[Batch]:
    """The first ``samples`` samples of ``task.train`` in batches of ``batch`` (the last may be smaller).

    Batches of another shape per sample than the first (sequences of other lengths) are passed over.

    Raises:
        TaskError: the training split is empty.
    """
    import torch

    parts: list[tuple[Tensor, ...]] = []
    missing = samples
    for inputs, targets in task.train:
        part = tuple(column[:missing] for column in (*as_inputs(inputs), targets))
        if parts and any(new.shape[1:] != first.shape[1:] for new, first in zip(part, parts[0], strict=True)):
            continue
        parts.append(part)
        missing -= len(targets)
        if missing <= 0:
            break
    if not parts:
        raise TaskError(f"Task '{task.name}': the training split is empty, and it is needed for calibration.")
    columns = [torch.split(torch.cat(column), batch) for column in zip(*parts, strict=True)]
    return [(tuple(inputs), targets) for *inputs, targets in zip(*columns, strict=True)]


def batch_within(task: Task, elements: int, *, at_least: int) -> int:
    """How many samples hold ``elements`` numbers in their inputs together, but no fewer than ``at_least``."""
    per_sample = sum(tensor[0].numel() for tensor in task.example_inputs)
    return max(at_least, elements // max(1, per_sample))
