"""A round: what is timed beside what, and of what it is a share."""

from typing import cast

import pytest

from autoprune.devices.steadiness import REFERENCE
from autoprune.evaluate import Evaluator
from autoprune.hardware import TimingPolicy
from autoprune.latency.rounds import Round, time_round
from autoprune.records import Artifact, Measurement
from tests.factories import measurement

DENSE_FP32, DENSE_INT8 = cast(Artifact, "dense"), cast(Artifact, "dense in INT8")


class Timing:
    """An evaluator whose dense model takes 1, 2 and 6 ms, in INT8 0.5, 1 and 3, and whatever else 1.5."""

    reference = DENSE_FP32

    def __init__(self) -> None:
        self.asked: dict[str, Artifact] = {}

    def time(self, artifacts: dict[str, Artifact], policy: TimingPolicy) -> dict[str, Measurement]:
        self.asked = {**artifacts, REFERENCE: self.reference}
        took_ms = {DENSE_FP32: iter([1.0, 2.0, 6.0]), DENSE_INT8: iter([0.5, 1.0, 3.0])}
        return {name: measurement(next(took_ms[one]) if one in took_ms else 1.5) for name, one in self.asked.items()}


def timed(dense: Artifact) -> tuple[list[Artifact], Round]:
    """What a round of one model was made of, and what was found."""
    timing = Timing()
    found = time_round(cast(Evaluator, timing), {"small": cast(Artifact, "small")}, TimingPolicy(), dense=dense)
    return list(timing.asked.values()), found


def test_a_share_is_of_the_mean_of_three_dense_models() -> None:
    asked, found = timed(DENSE_FP32)
    assert asked.count(DENSE_FP32) == 3
    assert found.reference_ms == found.dense_ms == pytest.approx(3.0)
    assert found.share("small") == pytest.approx(0.5)


def test_a_share_is_of_dense_models_in_the_same_precision() -> None:
    asked, found = timed(DENSE_INT8)
    assert (asked.count(DENSE_INT8), asked.count(DENSE_FP32)) == (3, 1)
    assert (found.dense_ms, found.reference_ms) == (pytest.approx(1.5), 1.0)
    assert found.share("small") == pytest.approx(1.0)


def test_names_of_dense_models_begin_as_the_reference() -> None:
    timed = {REFERENCE: measurement(2.0), f"{REFERENCE} 1": measurement(4.0)}
    assert Round(timed).reference_ms == pytest.approx(3.0)
