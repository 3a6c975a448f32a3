"""The contract of a recovery method, and the registry."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cache
from typing import TYPE_CHECKING, Protocol, cast

from autoprune.plugins import load, pick, shipped
from autoprune.recipe import RECOVERY_ORDER

if TYPE_CHECKING:
    from torch import Tensor, nn

    from autoprune.recipe import Recipe
    from autoprune.task import Task


@dataclass(frozen=True)
class Reference:
    """What was done to the model that is to be recovered.

    Attributes:
        dense: the model before the cut, a graph module like the cut one.
        rows: for each parameter or buffer that lost some of dimension 0 (output units), the dense indices that remain.
    """

    dense: nn.Module
    rows: Mapping[str, Tensor] = field(default_factory=dict)


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
