"""Recipe: one candidate as plain data."""

import hashlib
import json
from collections.abc import Mapping
from functools import cached_property

from pydantic import Field, NonNegativeInt, field_validator

from autoprune.documents import Strict
from autoprune.hardware import Precision

RECOVERY_ORDER = ("lstsq", "bn", "finetune", "distil")


class Keep(Strict):
    """Keep that many units of a group (channels, heads, hidden units): those with the highest saliency.

    0 drops the group, and with it the residual branch whose inner width it is.
    """

    units: NonNegativeInt


class Recipe(Strict):
    """One candidate: everything that makes the smaller model out of the dense one.

    Two recipes that are equal have the same `id`; groups that are kept whole do not appear in ``choices``.

    Attributes:
        choices: group id -> how much of it stays.
        criterion: the saliency criterion that ranks the units of every group.
        precision: of the exported artifact.
        recover: recovery methods after the cut, in the order of ``RECOVERY_ORDER``; ``()`` is none.
        epochs: over the training split, of ``finetune`` or ``distil``; 0 where nothing is trained.
        seed: of everything random in making the model.
    """

    choices: Mapping[str, Keep] = Field(default_factory=dict)
    criterion: str = "l2"
    precision: Precision = "fp32"
    recover: tuple[str, ...] = ()
    epochs: float = Field(default=0.0, ge=0.0)
    seed: NonNegativeInt = 0

    @field_validator("recover")
    @classmethod
    def _in_order(cls, recover: tuple[str, ...]) -> tuple[str, ...]:
        if unknown := set(recover) - set(RECOVERY_ORDER):
            raise ValueError(f"unknown recovery {sorted(unknown)}; known are {', '.join(RECOVERY_ORDER)}")
        return tuple(name for name in RECOVERY_ORDER if name in recover)

    @cached_property
    def id(self) -> str:
        """Content hash: 16 hexadecimal digits of SHA-256 over the canonical JSON."""
        canonical = json.dumps(self.model_dump(mode="json"), sort_keys=True, separators=(",", ":"))
        return hashlib.sha256(canonical.encode()).hexdigest()[:16]


DENSE = Recipe()
