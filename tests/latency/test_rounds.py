"""A round: what is timed beside what, and of what it is a share."""

from typing import cast

import pytest

from autoprune.devices.steadiness import REFERENCE
from autoprune.evaluate import Evaluator
from autoprune.hardware import TimingPolicy
from autoprune.latency.rounds import Round, time_round
from autoprune.records import Artifact, Measurement
from tests.factories import measurement


class Timing:
    """An evaluator whose dense model takes 1, 2 and 6 ms, and whatever else 1.5."""

    reference = cast(Artifact, "dense")

    def __init__(self) -> None:
        self.asked: dict[str, Artifact] = {}

    def time(self, artifacts: dict[str, Artifact], policy: TimingPolicy) -> dict[str, Measurement]:
        self.asked = {**artifacts, REFERENCE: self.reference}
        dense_ms = iter([1.0, 2.0, 6.0])
        return {name: measurement(next(dense_ms) if one == self.reference else 1.5) for name, one in self.asked.items()}


def test_a_share_is_of_the_mean_of_three_dense_models() -> None:
    timing = Timing()
    found = time_round(cast(Evaluator, timing), {"small": cast(Artifact, "small")}, TimingPolicy())
    assert list(timing.asked.values()).count(timing.reference) == 3
    assert found.reference_ms == pytest.approx(3.0)
    assert found.share("small") == pytest.approx(0.5)


def test_names_of_dense_models_begin_as_the_reference() -> None:
    timed = {REFERENCE: measurement(2.0), f"{REFERENCE} 1": measurement(4.0)}
    assert Round(timed).reference_ms == pytest.approx(3.0)
