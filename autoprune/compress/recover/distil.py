"""Knowledge distillation from the dense model."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from autoprune.compress.recover._training import train

if TYPE_CHECKING:
    from torch import Tensor, nn

    from autoprune.compress.recover._base import Reference
    from autoprune.recipe import Recipe
    from autoprune.task import Task


@dataclass(frozen=True)
class Distillation:
    """Training on ``share * T^2 * KL(dense || model) + (1 - share) * task.loss`` at temperature T.

    Source: Hinton, Vinyals and Dean 2015, "Distilling the Knowledge in a Neural Network".
    """

    name: str = "distil"
    description: str = "train on the dense model's soft targets and the task's loss"
    temperature: float = 4.0
    share: float = 0.9

    def recover(self, model: nn.Module, reference: Reference, task: Task, recipe: Recipe) -> None:
        """See `Recovery.recover`; outputs are logits, classes last. Fails as ``diverged`` like `FineTuning`."""
        import torch

        teacher = reference.dense.eval()

        def loss(outputs: Tensor, inputs: tuple[Tensor, ...], targets: Tensor) -> Tensor:
            with torch.no_grad():
                soft = teacher(*inputs).float()
            own = task.loss(outputs, targets)
            return self.share * divergence(outputs, soft, self.temperature) + (1 - self.share) * own

        train(model, task, recipe, loss)


def divergence(student: Tensor, teacher: Tensor, temperature: float) -> Tensor:
    """``T^2 KL(softmax(teacher / T) || softmax(student / T))``, mean over all but the last dimension; a scalar."""
    from torch.nn import functional

    log_p, log_q = (
        functional.log_softmax(logits / temperature, dim=-1).flatten(0, -2) for logits in (teacher, student)
    )
    return functional.kl_div(log_q, log_p, reduction="batchmean", log_target=True) * temperature**2


RECOVERY = Distillation()
