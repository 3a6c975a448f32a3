import itertools
import random
import statistics
from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from autoprune.devices import Circumstances, Session, measure, measure_together
from autoprune.devices.timing import median_interval
from autoprune.errors import StageError
from autoprune.hardware import TimingPolicy
from autoprune.testing import FakeSession, steady

POLICY = TimingPolicy(max_seconds=5)
HERE = Circumstances(
    runtime="fake", runtime_version="1", device="d", precision="fp32", batch=1, threads=1, conditions={"load": "0.1"}
)


class Recording(FakeSession):
    """Counts runs and notes the order of blocks in a shared list."""

    def __init__(self, script: Iterator[float], name: str = "", order: list[str] | None = None) -> None:
        super().__init__(script)
        self.name, self.order, self.runs, self.renewals = name, order if order is not None else [], 0, 0

    def run(self, n: int) -> list[float]:
        self.runs += n
        return super().run(n)

    def renew(self) -> None:
        self.renewals += 1
        self.order.append(self.name)


def test_steady_session_is_measured_and_circumstances_are_carried() -> None:
    measurement = measure(FakeSession(steady(2.0)), POLICY, HERE)
    assert measurement.median_ms == pytest.approx(2.0, rel=0.002)
    assert measurement.low_ms <= measurement.median_ms <= measurement.high_ms
    assert measurement.median_ms < measurement.p90_ms < measurement.p99_ms
    assert 11 * 13 <= measurement.n <= 11 * 14
    assert len(measurement.samples_ms) == measurement.n
    assert not measurement.disturbed
    assert measurement.conditions == {"load": "0.1"}
    assert measurement.source == "measured"


def test_warm_up_does_not_count() -> None:
    slow_start = itertools.chain(steady(20.0), ())
    script = itertools.chain(itertools.islice(slow_start, 5), steady(2.0))
    assert measure(FakeSession(script), POLICY, HERE).p99_ms < 2.1


def test_warm_up_that_meets_other_work_does_not_shorten_the_blocks() -> None:
    script = (sample * (8 if 2 < run < 60 and run % 4 else 1) for run, sample in enumerate(steady(2.0)))
    assert measure(FakeSession(script), POLICY, HERE).n >= 11 * 13


def test_first_runs_of_a_fresh_session_do_not_count() -> None:
    class ColdAfterRenewal(FakeSession):
        cold = False

        def renew(self) -> None:
            self.cold = True

        def run(self, n: int) -> list[float]:
            samples = super().run(n)
            if self.cold and n:
                samples[0], self.cold = samples[0] * 1.5, False
            return samples

    measurement = measure(ColdAfterRenewal(steady(2.0)), POLICY, HERE)
    assert max(measurement.samples_ms) < 2.1


def test_every_block_is_a_fresh_session() -> None:
    session = Recording(steady(2.0))
    measure(session, POLICY, HERE)
    assert session.renewals == POLICY.blocks


def test_interval_covers_the_layouts_of_memory() -> None:
    """Sessions differ by 1 %; runs within one by 0.01 %: the interval is that of the sessions."""

    class Layouts(FakeSession):
        def __init__(self, seed: int) -> None:
            super().__init__(steady(1.0, jitter_percent=0.01))
            self.random, self.layout = random.Random(seed), 1.0

        def renew(self) -> None:
            self.layout = 1 + self.random.uniform(-0.01, 0.01)

        def run(self, n: int) -> list[float]:
            return [self.layout * sample for sample in super().run(n)]

    found = [measure(Layouts(seed), POLICY, HERE) for seed in range(40)]
    covered = sum(measurement.low_ms <= 1.0 <= measurement.high_ms for measurement in found)
    assert covered >= 36


def test_slow_model_gets_few_runs_and_a_fast_one_few_stored_samples() -> None:
    slow, fast = Recording(steady(80.0)), Recording(steady(0.01))
    assert measure(slow, POLICY, HERE).n == POLICY.blocks * POLICY.min_block_runs
    measurement = measure(fast, POLICY, HERE)
    assert measurement.n > 20_000
    assert len(measurement.samples_ms) <= 1000
    assert fast.runs < 60_000


def test_never_settling_is_an_error_and_no_number() -> None:
    script = steady(2.0, jitter_percent=0.5)
    bursts = (sample * factor for sample, factor in zip(script, _growing_levels(), strict=False))
    with pytest.raises(StageError, match=r"did not settle in 5 s.* % wide") as caught:
        measure(FakeSession(bursts), POLICY, HERE)
    assert caught.value.kind == "unsettled"


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


def _growing_levels() -> Iterator[float]:
    """Another level about every block, each 3 % above the one before."""
    for level in itertools.count():
        yield from [1.03**level] * 20


@pytest.mark.parametrize("tolerate_percent", [20, 60])
def test_endless_drift_is_unsettled(tolerate_percent: float) -> None:
    policy = POLICY.model_copy(update={"tolerate_percent": tolerate_percent})
    with pytest.raises(StageError, match="those since are all slower") as caught:
        measure(FakeSession(steady(2.0, drift_percent=0.05)), policy, HERE)
    assert caught.value.kind == "unsettled"


def test_throttling_device_settles_at_its_lasting_speed() -> None:
    boosted, lasting = itertools.islice(steady(1.0, drift_percent=0.05), 800), steady(1.5)
    measurement = measure(FakeSession(itertools.chain(boosted, lasting)), POLICY, HERE)
    assert measurement.median_ms == pytest.approx(1.5, rel=0.01)


def test_model_that_is_too_slow_is_unsettled() -> None:
    with pytest.raises(StageError, match="only 0 of 11 blocks") as caught:
        measure(FakeSession(steady(6000.0)), POLICY, HERE)
    assert caught.value.kind == "unsettled"


def test_preempted_session_is_unsettled_however_steady_its_medians() -> None:
    script = (sample * (1 if run % 4 == 0 else 3) for run, sample in enumerate(steady(2.0)))
    with pytest.raises(StageError, match="fastest tenth") as caught:
        measure(FakeSession(script), POLICY, HERE)
    assert caught.value.kind == "unsettled"


@pytest.mark.parametrize("lie", [0.0, -1e-3, float("nan"), float("inf")])
@pytest.mark.parametrize("at", [0, 3, 150])
def test_impossible_duration_is_a_clock_error(lie: float, at: int) -> None:
    script = itertools.chain(itertools.islice(steady(2.0), at), [lie], steady(2.0))
    with pytest.raises(StageError) as caught:
        measure(FakeSession(script), POLICY, HERE)
    assert caught.value.kind == "clock"


def test_frozen_clock_is_a_clock_error() -> None:
    with pytest.raises(StageError, match="all durations are the same") as caught:
        measure(FakeSession(itertools.repeat(2e-3)), POLICY, HERE)
    assert caught.value.kind == "clock"


def test_wrong_number_of_samples_is_a_clock_error() -> None:
    with pytest.raises(StageError) as caught:
        measure(FakeSession(iter([1e-3] * 3)), POLICY, HERE)
    assert caught.value.kind == "clock"


def test_disturbed_blocks_are_left_out() -> None:
    """Every other block meets a neighbour that makes it 8 % slower."""

    class Neighbour(FakeSession):
        renewals = 0

        def renew(self) -> None:
            self.renewals += 1

        def run(self, n: int) -> list[float]:
            factor = 1.08 if self.renewals % 2 else 1.0
            return [factor * sample for sample in super().run(n)]

    measurement = measure(Neighbour(steady(2.0)), POLICY, HERE)
    assert measurement.median_ms == pytest.approx(2.0, rel=0.005)
    assert not measurement.disturbed


def test_mostly_dropped_blocks_mean_disturbed() -> None:
    class Neighbour(FakeSession):
        renewals = 0

        def renew(self) -> None:
            self.renewals += 1

        def run(self, n: int) -> list[float]:
            factor = 1.0 if self.renewals % 3 == 0 else 1.2 + 0.1 * (self.renewals % 5)
            return [factor * sample for sample in super().run(n)]

    measurement = measure(Neighbour(steady(2.0)), POLICY, HERE)
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


def test_together_is_interleaved_in_seeded_random_order() -> None:
    def orders(seed: int) -> list[str]:
        order: list[str] = []
        sessions = {name: Recording(steady(2.0), name, order) for name in "abc"}
        measure_together(sessions, POLICY, dict.fromkeys("abc", HERE), seed=seed)
        return order

    order = orders(1)
    rounds = [order[i : i + 3] for i in range(0, len(order), 3)]
    assert all(sorted(names) == ["a", "b", "c"] for names in rounds)
    assert len({tuple(names) for names in rounds}) > 1
    assert order == orders(1) != orders(2)


def test_together_a_drift_of_the_machine_meets_all_alike() -> None:
    machine = itertools.count()

    class Drifting(Session):
        def __init__(self, latency_ms: float) -> None:
            self.script = steady(latency_ms)

        def run(self, n: int) -> list[float]:
            slower = 1 + 0.02 * min(1.0, next(machine) / 60)
            return [slower * next(self.script) for _ in range(n)]

    sessions: dict[str, Session] = {"dense": Drifting(3.0), "cut": Drifting(2.0)}
    found = measure_together(sessions, POLICY, dict.fromkeys(sessions, HERE))
    assert found["dense"].median_ms / found["cut"].median_ms == pytest.approx(1.5, rel=0.005)


def test_together_one_that_never_settles_is_an_error() -> None:
    sessions = {"good": FakeSession(steady(2.0)), "bad": FakeSession(steady(2.0, drift_percent=0.05))}
    with pytest.raises(StageError, match="did not settle"):
        measure_together(sessions, POLICY, dict.fromkeys(sessions, HERE))


@given(st.lists(st.floats(0.1, 10), min_size=1, max_size=40))
def test_interval_encloses_the_median(values: list[float]) -> None:
    low, high = median_interval(values)
    assert min(values) <= low <= statistics.median(values) <= high <= max(values)


@pytest.mark.parametrize("n", [6, 7, 9, 15, 30])
def test_interval_covers_as_often_as_it_says(n: int) -> None:
    generator = random.Random(n)
    covered = 0
    for _ in range(2000):
        low, high = median_interval([generator.lognormvariate(0, 1) for _ in range(n)])
        covered += low <= 1.0 <= high
    assert 0.94 <= covered / 2000 < 0.995
