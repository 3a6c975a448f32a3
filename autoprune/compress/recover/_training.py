"""The one training loop."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sized
from typing import TYPE_CHECKING

from autoprune.compress.batches import as_inputs, seeded
from autoprune.errors import StageError, TaskError

if TYPE_CHECKING:
    import torch
    from torch import Tensor, nn

    from autoprune.recipe import Recipe
    from autoprune.task import Batch, Task

    Loss = Callable[[Tensor, tuple[Tensor, ...], Tensor], Tensor]

MOMENTUM, WEIGHT_DECAY = 0.9, 5e-4
SGD_RATE, ADAMW_RATE = 0.01, 5e-4


def train(model: nn.Module, task: Task, recipe: Recipe, loss: Loss) -> None:
    """Train for ``recipe.epochs`` over ``task.train`` with ``loss(outputs, inputs, targets)``; ends in evaluation mode.

    Models with BatchNorm take SGD with Nesterov momentum, others AdamW; the learning rate falls to zero along a
    cosine (Loshchilov and Hutter 2017). Norms and biases do not decay.

    Raises:
        StageError: ``diverged`` when the loss is no longer finite; ``no_epochs`` when the recipe has none.
        TaskError: the training split is empty.
    """
    steps = _steps(task, recipe.epochs)
    model.train()
    optimizer = _optimizer(model)
    rate = optimizer.param_groups[0]["lr"]
    with seeded(recipe.seed):
        for step, (inputs, targets) in zip(range(steps), _forever(task), strict=False):
            for group in optimizer.param_groups:
                group["lr"] = rate * (1 + math.cos(math.pi * step / steps)) / 2
            value = loss(model(*as_inputs(inputs)), as_inputs(inputs), targets)
            if not math.isfinite(value.item()):
                raise StageError(f"The loss is {value.item()} after {step} of {steps} steps.", kind="diverged")
            optimizer.zero_grad()
            value.backward()  # type: ignore[no-untyped-call]
            optimizer.step()
    model.eval()


def _steps(task: Task, epochs: float) -> int:
    if epochs <= 0:
        raise StageError("This recipe trains, but its epochs are 0: set epochs above 0.", kind="no_epochs")
    batches = len(task.train) if isinstance(task.train, Sized) else sum(1 for _ in task.train)
    if not batches:
        raise TaskError(f"Task '{task.name}': the training split is empty, and this recipe trains.")
    return max(1, round(epochs * batches))


def _forever(task: Task) -> Iterator[Batch]:
    while True:
        yield from task.train


def _optimizer(model: nn.Module) -> torch.optim.Optimizer:
    import torch

    from autoprune.compress.interpret import calls
    from autoprune.graph.net import batch_norm

    parameters = [parameter for parameter in model.parameters() if parameter.requires_grad]
    groups = [
        {"params": [p for p in parameters if p.ndim > 1], "weight_decay": WEIGHT_DECAY},
        {"params": [p for p in parameters if p.ndim <= 1], "weight_decay": 0.0},
    ]
    if calls(model, batch_norm):
        return torch.optim.SGD(groups, lr=SGD_RATE, momentum=MOMENTUM, nesterov=True)
    return torch.optim.AdamW(groups, lr=ADAMW_RATE)
