"""Fine-tuning."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from autoprune.compress.recover._training import train

if TYPE_CHECKING:
    from torch import nn

    from autoprune.compress.recover._base import Reference
    from autoprune.recipe import Recipe
    from autoprune.task import Task


@dataclass(frozen=True)
class FineTuning:
    """Training on the task's own loss for ``recipe.epochs``."""

    name: str = "finetune"
    description: str = "train on the task's loss"

    def recover(self, model: nn.Module, reference: Reference, task: Task, recipe: Recipe) -> None:
        """See `Recovery.recover`; fails as ``diverged`` when the loss is no longer finite."""
        train(model, task, recipe, lambda outputs, inputs, targets: task.loss(outputs, targets))


RECOVERY = FineTuning()
