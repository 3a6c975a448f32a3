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


PATIENT = 1.0  # epochs: ResNet-56 lost by mixtures in 0.1 of an epoch, and gained by them in 1 and in 5


@dataclass(frozen=True)
class Distillation:
    """Training on ``T^2 * KL(dense || model)`` at temperature T; labels are not used.

    From an epoch on it is on mixtures of two samples each, the same for both models: the dense one knows its training
    samples by heart, and says more about what it has not seen. Before that BatchNorm is better off with samples alone.

    Sources: Hinton, Vinyals and Dean 2015, "Distilling the Knowledge in a Neural Network"; Beyer et al. 2022,
    "Knowledge distillation: A good teacher is patient and consistent".
    """

    name: str = "distil"
    description: str = "train on the dense model's soft targets, without labels"
    temperature: float = 4.0

    def recover(self, model: nn.Module, reference: Reference, task: Task, recipe: Recipe) -> None:
        """See `Recovery.recover`; outputs are logits, classes last. Fails as ``diverged`` like `FineTuning`."""
        import torch

        teacher = reference.dense.eval()

        def loss(outputs: Tensor, inputs: tuple[Tensor, ...], targets: Tensor) -> Tensor:
            with torch.no_grad():
                soft = teacher(*inputs).float()
            return divergence(outputs, soft, self.temperature)

        train(model, task, recipe, loss, view=mixed if recipe.epochs >= PATIENT else tuple)


def mixed(inputs: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
    """Each sample mixed with another of its batch, by a share drawn from [0, 1]; as they are where one is of integers.

    Source: Zhang et al. 2018, "mixup: Beyond Empirical Risk Minimization".
    """
    import torch

    if not all(value.is_floating_point() for value in inputs):
        return inputs
    share, order = torch.rand(()), torch.randperm(len(inputs[0]))
    return tuple(torch.lerp(value, value[order], share) for value in inputs)


def divergence(student: Tensor, teacher: Tensor, temperature: float) -> Tensor:
    """``T^2 KL(softmax(teacher / T) || softmax(student / T))``, mean over all but the last dimension; a scalar."""
    from torch.nn import functional

    log_p, log_q = (
        functional.log_softmax(logits / temperature, dim=-1).flatten(0, -2) for logits in (teacher, student)
    )
    return functional.kl_div(log_q, log_p, reduction="batchmean", log_target=True) * temperature**2


RECOVERY = Distillation()
