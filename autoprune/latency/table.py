"""What cutting each group to each width saves on one device: observations, the table made of them, its bias."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

from pydantic import Field, NonNegativeFloat, NonNegativeInt, PositiveFloat, PositiveInt

from autoprune.documents import Strict
from autoprune.hardware import Precision
from autoprune.recipe import Recipe

Purpose = Literal["sweep", "joint", "held-out"]


class Observation(Strict):
    """One recipe, timed end to end beside the dense model in its precision.

    Attributes:
        purpose: ``sweep`` cuts one group alone, ``joint`` many at once, ``held-out`` is for the bias alone.
        share: its latency divided by ``dense_ms``.
        low, high: the 95 % interval of the share, from that of the latency.
        dense_ms: what the dense model in the precision of the recipe took in the same round of recipes; so those of one
            round have one in common.
        reference_ms: what the dense FP32 model took there.
        again: the share when it was timed once more, which only a held-out recipe is: two measurements of one recipe
            tell what a measurement is worth.
    """

    recipe: Recipe
    purpose: Purpose
    share: PositiveFloat
    low: PositiveFloat
    high: PositiveFloat
    latency_ms: PositiveFloat
    dense_ms: PositiveFloat
    reference_ms: PositiveFloat
    disturbed: bool = False
    again: PositiveFloat | None = None


class Cell(Strict):
    """One group at one width, everything else whole: the share of the dense FP32 model's latency that it saves.

    ``low`` and ``high`` bound it with 95 % probability, given all observations. ``pays`` is False where it saves
    next to nothing over the next wider level: nobody should choose this width.
    """

    units: NonNegativeInt
    saves: float
    low: float
    high: float
    pays: bool


class Bias(Strict):
    """Predicted against measured on recipes that the table did not see.

    Attributes:
        n: held-out recipes.
        mape_percent, worst_percent: mean and largest absolute error in per cent of the measured latency.
        mean_percent: with its sign; above zero the table predicts too slow.
        kendall_tau: rank correlation.
        repeat_percent: mean absolute difference of two measurements of one recipe, in per cent of their mean: no
            prediction can be seen to be better than about half of that. None where nothing was timed twice.
    """

    n: PositiveInt
    mape_percent: NonNegativeFloat
    worst_percent: NonNegativeFloat
    mean_percent: float
    kendall_tau: float = Field(ge=-1.0, le=1.0)
    repeat_percent: NonNegativeFloat | None = None


class HeldOut(Strict):
    """What the table predicted, and the mean of what was then measured: shares of the dense model's latency in the same
    precision, which was timed beside it."""

    recipe: str
    predicted: float
    measured: PositiveFloat


class PrecisionTable(Strict):
    """All groups in one precision.

    Attributes:
        dense_share: the uncut model's latency as a share of dense FP32, the median over the rounds of timing.
        dense_low, dense_high: the lowest and the highest of these. Precisions do not slow down alike from minute to
            minute, so that a share of dense FP32 is no surer than that, however sure a cut's savings are.
    """

    dense_share: PositiveFloat
    dense_low: PositiveFloat
    dense_high: PositiveFloat
    cells: Mapping[str, tuple[Cell, ...]]
    bias: Bias
    held_out: tuple[HeldOut, ...]


class LatencyTable(Strict):
    """``table.json``: one model on one device; ``dense_ms`` is what a share of 1 is in milliseconds."""

    schema_version: int = 1
    task: str
    target: str
    key: str
    circumstances: Mapping[str, str]
    dense_ms: PositiveFloat
    tables: Mapping[Precision, PrecisionTable]
    observations: tuple[Observation, ...]
    seconds: NonNegativeFloat
