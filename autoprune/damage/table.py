"""What cutting each group to each width does to the output of the whole model."""

from __future__ import annotations

from collections.abc import Mapping

from pydantic import NonNegativeFloat, NonNegativeInt, PositiveInt

from autoprune.documents import Strict


class DamageTable(Strict):
    """The divergence of the recovered model's output from the dense one's, one group cut at a time.

    Attributes:
        criterion, recover: that ranked the units, and how the cut was recovered.
        samples: training samples that the divergence is a mean over; no labels are used.
        damage: group id -> units kept -> divergence; 0 where the group is whole.
        seconds: that measuring took; what was known already took none.
    """

    criterion: str
    recover: str
    samples: PositiveInt
    damage: Mapping[str, Mapping[NonNegativeInt, NonNegativeFloat]]
    seconds: NonNegativeFloat = 0.0
