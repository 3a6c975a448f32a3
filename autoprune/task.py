"""Task: what the user brings."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor, nn

    Batch = tuple[Tensor | tuple[Tensor, ...], Tensor]
    Batches = Iterable[Batch]


def accuracy(outputs: Tensor, targets: Tensor) -> float:
    """Top-1 accuracy in [0, 1]: ``outputs`` (N, classes), ``targets`` (N,) of class indices."""
    return float((outputs.argmax(dim=-1) == targets).float().mean())


def cross_entropy(outputs: Tensor, targets: Tensor) -> Tensor:
    """Mean cross-entropy of logits (N, classes) against class indices (N,)."""
    from torch.nn import functional

    return functional.cross_entropy(outputs, targets)


@dataclass(frozen=True)
class Task:
    """A trained model, its data and its metric.

    Attributes:
        name: used in the names of run directories.
        model: makes the trained model, on the CPU: the same weights each time it is called.
        example_inputs: positional inputs of one forward pass; dimension 0 is the batch.
        train: batches ``(inputs, targets)`` for calibration and recovery; iterated anew each time, so a list, a
            ``DataLoader`` or any object with ``__iter__`` fits, a generator does not. ``inputs`` is a tensor, or a
            tuple of tensors for a model with several inputs.
        validation: batches that the search scores candidates on.
        test: batches read once, at the end, for the finalists; None when there are none.
        metric: ``metric(outputs, targets) -> float``, greater is better; outputs and targets of a whole split,
            concatenated over dimension 0.
        loss: ``loss(outputs, targets) -> scalar tensor`` for gradients; unused where nothing is trained.
        sources: files that define the task (code, weights, data); a change in them is noticed when a run is resumed.
    """

    name: str
    model: Callable[[], nn.Module]
    example_inputs: tuple[Tensor, ...]
    train: Batches
    validation: Batches
    test: Batches | None = None
    metric: Callable[[Tensor, Tensor], float] = accuracy
    loss: Callable[[Tensor, Tensor], Tensor] = cross_entropy
    sources: tuple[str, ...] = field(default=())
