"""Latencies beside other work: what the system sees of it, and what it does not."""

import itertools
import random
from collections.abc import Callable

import pytest

from autoprune.devices import Session, measure, measure_together
from autoprune.errors import StageError
from autoprune.testing import FakeSession, steady
from tests.devices.sessions import HERE, POLICY, Recording


class Neighbour(FakeSession):
    """2 ms, times what ``slower`` says for each block by its number."""

    def __init__(self, slower: Callable[[int], float]) -> None:
        super().__init__(steady(2.0))
        self.slower, self.renewals = slower, 0

    def renew(self) -> None:
        self.renewals += 1

    def run(self, n: int) -> list[float]:
        return [self.slower(self.renewals) * sample for sample in super().run(n)]


def test_disturbed_blocks_are_left_out() -> None:
    """Every other block meets a neighbour that makes it 8 % slower."""
    neighbour = Neighbour(lambda block: 1.08 if block % 2 else 1.0)
    measurement = measure(neighbour, POLICY, HERE)
    assert measurement.median_ms == pytest.approx(2.0, rel=0.005)
    assert not measurement.disturbed


def test_mostly_dropped_blocks_mean_disturbed() -> None:
    neighbour = Neighbour(lambda block: 1.0 if block % 3 == 0 else 1.2 + 0.1 * (block % 5))
    measurement = measure(neighbour, POLICY, HERE)
    assert measurement.median_ms == pytest.approx(2.0, rel=0.005)
    assert measurement.disturbed
    assert measurement.low_ms <= 2.0
    assert measurement.high_ms > 2.4, "dropped blocks are not forgotten in the interval"


class Shared(Recording):
    """Slower in the last part of every ``period_s`` of its own time, as beside a neighbour on the same core."""

    def __init__(self, part: float, *, period_s: float) -> None:
        super().__init__(steady(2.0))
        self.quiet_s, self.period_s, self.seconds = (1 - part) * period_s, period_s, 0.0

    def run(self, n: int) -> list[float]:
        samples = []
        for sample in super().run(n):
            samples.append(sample * (1.9 if self.seconds % self.period_s > self.quiet_s else 1.0))
            self.seconds += samples[-1]
        return samples


def test_a_block_that_a_neighbour_slows_down_is_taken_again_without_loading_again() -> None:
    session = Shared(0.4, period_s=0.2)
    measurement = measure(session, POLICY, HERE)
    assert measurement.high_ms == pytest.approx(2.0, rel=0.005)
    assert session.renewals == POLICY.blocks
    assert not measurement.disturbed


def test_moments_of_quiet_that_are_shorter_than_a_block_suffice() -> None:
    """Of 2 ms in every 10; once a second the neighbour is still for long enough to show how fast the model is."""

    class Flickering(Recording):
        seconds = 0.0

        def run(self, n: int) -> list[float]:
            samples = []
            for sample in super().run(n):
                quiet = self.seconds % 0.01 < 0.002 or self.seconds % 1.0 < 0.1
                samples.append(sample * (1.0 if quiet else 1.9))
                self.seconds += samples[-1]
            return samples

    session = Flickering(steady(0.2))
    measurement = measure(session, POLICY, HERE)
    assert measurement.median_ms == pytest.approx(0.2, rel=0.005)
    assert measurement.disturbed
    assert session.seconds < 2.0


def test_blocks_that_mostly_had_to_be_taken_again_mean_disturbed() -> None:
    measurement = measure(Shared(0.9, period_s=0.2), POLICY, HERE)
    assert measurement.median_ms == pytest.approx(2.0, rel=0.005)
    assert measurement.disturbed


def test_patience_is_lost_where_it_is_in_vain() -> None:
    """Slower for good from some block on, each of which takes 25 ms: few are taken again."""
    lasting = Recording(itertools.chain(itertools.islice(steady(1.0), 300), steady(1.5)))
    assert measure(lasting, POLICY, HERE).median_ms == pytest.approx(1.5, rel=0.01)
    assert lasting.runs < 3000


def test_rare_quiet_blocks_suffice_where_taking_again_does_not_help() -> None:
    class Neighbour(Recording):
        def run(self, n: int) -> list[float]:
            return [sample * (1.0 if self.renewals % 5 == 0 else 2.0) for sample in super().run(n)]

    measurement = measure(Neighbour(steady(2.0)), POLICY, HERE)
    assert measurement.median_ms == pytest.approx(2.0, rel=0.005)
    assert measurement.disturbed


class Loud(FakeSession):
    """Says that other work takes a share of the device during the first blocks."""

    def __init__(self, loud_blocks: float) -> None:
        super().__init__(steady(2.0))
        self.loud_blocks, self.renewals, self.foreign = loud_blocks, 0, 0.0

    def renew(self) -> None:
        self.renewals += 1

    def run(self, n: int) -> list[float]:
        if self.renewals <= self.loud_blocks:
            self.foreign += 1.0  # far more than the time that a run of the fake takes
        return super().run(n)

    def foreign_seconds(self) -> float:
        return self.foreign


def test_loud_blocks_are_repeated_until_quiet_ones_suffice() -> None:
    session = Loud(loud_blocks=3)
    assert not measure(session, POLICY, HERE).disturbed
    assert session.renewals == 3 + POLICY.blocks


def test_load_that_was_there_for_long_is_flagged_though_quiet_blocks_sufficed() -> None:
    session = Loud(loud_blocks=2 * POLICY.blocks - 5)
    assert measure(session, POLICY, HERE).disturbed


def test_lasting_foreign_load_is_flagged_and_costs_a_bounded_time() -> None:
    session = Loud(loud_blocks=float("inf"))
    assert measure(session, POLICY, HERE).disturbed
    assert session.renewals == 3 * POLICY.blocks


class Busy(Session):
    """Beside a neighbour that is never still for as long as a block, and of another load every time."""

    def __init__(self, latency_ms: float, *, pause_s: float = 0.006) -> None:
        self.script, self.pause_s, self.random = steady(latency_ms), pause_s, random.Random(1)
        self.slower, self.left_s = 1.0, 0.0

    def run(self, n: int) -> list[float]:
        return [self._one(next(self.script)) for _ in range(n)]

    def _one(self, work: float) -> float:
        took = 0.0
        while work > 1e-9:
            if self.left_s <= 0:
                self._next()
            step = min(self.left_s, work * self.slower)
            took, work, self.left_s = took + step, work - step / self.slower, self.left_s - step
        return took

    def _next(self) -> None:
        if self.slower > 1:
            self.slower, self.left_s = 1.0, self.pause_s
        else:
            self.slower, self.left_s = self.random.uniform(1.5, 2.5), self.random.expovariate(1 / 0.03)


STRICT = POLICY.model_copy(update={"tolerate_percent": 0})


def test_what_does_not_settle_is_told_by_its_fastest_runs_and_marked() -> None:
    with pytest.raises(StageError, match="did not settle"):
        measure(Busy(4.0), STRICT, HERE)
    measurement = measure(Busy(4.0), POLICY, HERE)
    assert measurement.median_ms == pytest.approx(4.0, rel=0.01)
    assert measurement.low_ms < measurement.median_ms < measurement.high_ms
    assert measurement.disturbed
    assert "in 5 s" in measurement.conditions["unsettled"]


def test_what_was_timed_beside_it_is_told_by_its_fastest_runs_too() -> None:
    def uneven() -> FakeSession:
        return FakeSession(sample * (1.0 if run % 3 else 0.9) for run, sample in enumerate(steady(4.0)))

    assert measure(uneven(), POLICY, HERE).median_ms == pytest.approx(4.0, rel=0.01)
    sessions: dict[str, Session] = {"dense": uneven(), "cut": Busy(2.0, pause_s=0.003)}
    found = measure_together(sessions, POLICY, dict.fromkeys(sessions, HERE))
    assert found["dense"].median_ms == pytest.approx(3.6, rel=0.01)
    assert found["cut"].median_ms == pytest.approx(2.0, rel=0.01)
    assert found["dense"].disturbed


def test_fastest_runs_that_are_far_apart_are_no_latency() -> None:
    with pytest.raises(StageError, match=r"% wide\. Free the device .* timing\.tolerate_percent"):
        measure(Busy(4.0, pause_s=0.003), POLICY.model_copy(update={"tolerate_percent": 5.0}), HERE)
