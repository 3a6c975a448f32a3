import itertools
import random
import statistics
from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from autoprune.devices import Session, measure, measure_together
from autoprune.devices.timing import CHURNS, _churn, median_interval
from autoprune.errors import StageError
from autoprune.testing import FakeSession, steady
from tests.devices.sessions import HERE, POLICY, Recording


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


def test_sessions_that_share_memory_are_renewed_in_turns_before_the_first_block() -> None:
    happened = list[str]()

    class Told(FakeSession):
        def __init__(self, name: str) -> None:
            super().__init__(steady(2.0))
            self.name = name

        def renew(self) -> None:
            happened.append(self.name)

        def block(self, lead_in: int, n: int) -> tuple[list[float], float | None]:
            happened.append("block")
            return super().block(lead_in, n)

    measure_together({name: Told(name) for name in "ab"}, POLICY, dict.fromkeys("ab", HERE))
    assert happened[: happened.index("block")] == CHURNS * ["a", "b"]


def test_what_loads_slowly_is_renewed_less_often_before_the_first_block(monkeypatch: pytest.MonkeyPatch) -> None:
    now = itertools.count(step=0.2)  # seconds; each look at the clock
    monkeypatch.setattr("autoprune.devices.timing.time.monotonic", lambda: next(now))
    sessions = [Recording(steady(2.0)) for _ in range(2)]
    _churn(sessions)
    assert [session.renewals for session in sessions] == [2, 2]


def test_what_begins_anew_shares_no_memory_and_is_not_renewed() -> None:
    sessions = {name: Recording(steady(2.0)) for name in "ab"}
    for session in sessions.values():
        session.anew = True
    measure_together(sessions, POLICY, dict.fromkeys("ab", HERE))
    assert [session.renewals for session in sessions.values()] == [0, 0]


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
