"""The one training loop."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterator, Mapping, Sized
from typing import TYPE_CHECKING

from autoprune.compress.batches import as_inputs, in_layout, seeded
from autoprune.errors import StageError, TaskError

if TYPE_CHECKING:
    import torch
    from torch import Tensor, nn

    from autoprune.recipe import Recipe
    from autoprune.task import Batch, Task

    Inputs = tuple[Tensor, ...]
    Loss = Callable[[Tensor, Inputs, Tensor], Tensor]

MOMENTUM, WEIGHT_DECAY = 0.9, 5e-4
SGD_RATE, ADAMW_RATE = 0.01, 5e-4


def train(
    model: nn.Module, task: Task, recipe: Recipe, loss: Loss, *, view: Callable[[Inputs], Inputs] = tuple
) -> None:
    """Train for ``recipe.epochs`` over ``task.train`` with ``loss(outputs, inputs, targets)``; ends in evaluation mode.

    Inputs are what ``view`` makes of the task's.

    Models with BatchNorm take SGD with Nesterov momentum, others AdamW; the learning rate falls to zero along a
    cosine (Loshchilov and Hutter 2017). Norms and biases do not decay. Images and weights lie channels last where the
    model computes so: on a CPU, ResNets then take a fifth less time, and compute the same up to rounding. Where the CPU
    has instructions for bfloat16 too, passes are computed in it, with weights and outputs in FP32 (`torch.autocast`).

    Raises:
        StageError: ``diverged`` when the loss is no longer finite; ``no_epochs`` when the recipe has none.
        TaskError: the training split is empty.
    """
    import torch

    steps = _steps(task, recipe.epochs)
    layout, bfloat16 = _mode(model, task)
    model.to(memory_format=layout).train()  # type: ignore[call-overload]
    optimizer = _optimizer(model)
    rate = optimizer.param_groups[0]["lr"]
    with seeded(recipe.seed):
        for step, (images, targets) in zip(range(steps), _forever(task), strict=False):
            inputs = in_layout(view(as_inputs(images)), layout)
            for group in optimizer.param_groups:
                group["lr"] = rate * (1 + math.cos(math.pi * step / steps)) / 2
            with torch.autocast("cpu", dtype=torch.bfloat16, enabled=bfloat16):
                value = loss(model(*inputs).float(), inputs, targets)
            if not math.isfinite(value.item()):
                raise StageError(f"The loss is {value.item()} after {step} of {steps} steps.", kind="diverged")
            optimizer.zero_grad()
            value.backward()  # type: ignore[no-untyped-call]
            optimizer.step()
    model.to(memory_format=torch.contiguous_format).eval()  # type: ignore[call-overload]


def _mode(model: nn.Module, task: Task) -> tuple[torch.memory_format, bool]:
    """The fastest that the model can: channels last (an exported ``view`` may need another layout), and bfloat16."""
    import torch

    several = tuple(torch.cat((value, value)) for value in task.example_inputs)  # of one, more layouts are the same
    precisions = (True, False) if has_bfloat16() else (False,)
    for layout, bfloat16 in itertools.product((torch.channels_last, torch.contiguous_format), precisions):
        try:
            with torch.autocast("cpu", dtype=torch.bfloat16, enabled=bfloat16):
                model.to(memory_format=layout).eval()  # type: ignore[call-overload]
                outputs = model(*in_layout(several, layout))
            outputs.float().sum().backward()
        except RuntimeError:
            continue
        return layout, bfloat16
    return torch.contiguous_format, False


def has_bfloat16() -> bool:
    """Whether this CPU multiplies in bfloat16 (AVX-512 BF16, AMX); others emulate it."""
    import torch

    capabilities: Mapping[str, object] = getattr(torch.cpu, "get_capabilities", dict)()  # older versions lack it
    return bool(capabilities.get("avx512_bf16"))


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
