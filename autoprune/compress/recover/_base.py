"""The contract of a recovery method, and the registry."""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from dataclasses import dataclass, field
from functools import cache
from typing import TYPE_CHECKING, Protocol, cast

from autoprune.compress.batches import as_inputs, batch_within, laid_out, seeded, take
from autoprune.plugins import load, pick, shipped
from autoprune.recipe import RECOVERY_ORDER

if TYPE_CHECKING:
    from torch import Tensor, nn

    from autoprune.compress.passes import Passes
    from autoprune.recipe import Recipe
    from autoprune.task import Task


@dataclass(frozen=True)
class Reference:
    """What was done to the model that is to be recovered.

    Attributes:
        dense: the model before the cut, a graph module like the cut one.
        rows: for each parameter or buffer that lost some of dimension 0 (output units), the dense indices that remain.
        made: passes by what was asked for, kept for the next cut.
    """

    dense: nn.Module
    rows: Mapping[str, Tensor] = field(default_factory=dict)
    made: dict[Hashable, Passes] = field(default_factory=dict)

    def passes(self, task: Task, count: int, *, elements: int, seed: int) -> Passes:
        """Of ``count`` training samples, fewer of large ones: ``elements`` numbers in all, but 32 samples.

        Raises:
            TaskError: the training split is empty.
        """
        from autoprune.compress.passes import Passes

        key = (count, elements, seed)
        if key not in self.made:
            several = min(count, batch_within(task, elements, at_least=32))
            with seeded(seed):
                ((inputs, _),) = take(task, several, batch=several)
            self.made[key] = Passes(self.dense, laid_out(self.dense, as_inputs(inputs)))
        return self.made[key]


class Recovery(Protocol):
    """Makes a cut model better, in place; same model, task and recipe give the same weights, bit for bit.

    Attributes:
        name: what a recipe calls it; one of ``RECOVERY_ORDER``.
        description: one line for lists.
    """

    @property
    def name(self) -> str: ...
    @property
    def description(self) -> str: ...

    def recover(self, model: nn.Module, reference: Reference, task: Task, recipe: Recipe) -> None:
        """Change the weights of ``model``, an exported graph of ATen operators, and leave it in evaluation mode.

        Raises:
            StageError: this candidate cannot be recovered.
            TaskError: the training split is empty.
        """
        ...


@cache
def _known() -> dict[str, Recovery]:
    known = {entry.name: entry for entry in shipped("autoprune.compress.recover", "RECOVERY")}
    return {name: cast(Recovery, load(known[name])) for name in RECOVERY_ORDER}


def recoveries() -> list[Recovery]:
    """All recovery methods, in the order in which a recipe applies them."""
    return list(_known().values())


def recovery(name: str) -> Recovery:
    """The method of that name. Raises UsageError that lists the known ones when there is none."""
    return pick(_known(), name, "recovery")
