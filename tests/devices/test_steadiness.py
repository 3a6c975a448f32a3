"""A device that is held back half-way, recovers, or never does. Only the loop is real here: times are scripted."""

import itertools
from collections.abc import Iterable, Iterator

import pytest

from autoprune.devices import Arrays, measure_together
from autoprune.devices.steadiness import REFERENCE, Look, State, Steadiness, Timed
from autoprune.errors import DeviceError
from autoprune.hardware import HardwareProfile, TimingPolicy
from autoprune.records import Artifact
from autoprune.testing import FakeDevice, FakeSession, steady

POLICY = TimingPolicy(cool_down_s=0.0)
COOL: State = {"temperature_c": "50", "clock_limit_mhz": "1500 1500", "throttle_events": "3", "governor": "schedutil"}
HOT: State = {**COOL, "temperature_c": "95", "throttled": "cooled by thermal-cpufreq-0"}


class Bench:
    """Times a dense model and a candidate half as slow, again and again; ``dense`` gives milliseconds each time."""

    def __init__(self, profile: HardwareProfile, dense: Iterable[float], states: Iterable[State] = ()) -> None:
        found: Iterator[State] = itertools.chain(states, itertools.repeat(COOL))
        self.device = FakeDevice(profile, states=map(dict, found))
        self.dense, self.times, self.said = iter(dense), 0, list[str]()
        self.steadiness = Steadiness(self.device)

    def time(self, policy: TimingPolicy = POLICY) -> Timed:
        return self.steadiness.insist(lambda state, look: self._measure(policy, state, look), policy, self.said.append)

    def _measure(self, policy: TimingPolicy, state: State, look: Look) -> Timed:
        self.times += 1
        ms = next(self.dense)
        sessions = {REFERENCE: FakeSession(steady(ms)), "cut": FakeSession(steady(ms / 2))}
        circumstances = dict.fromkeys(sessions, self.device.circumstances("fp32", state))
        return measure_together(sessions, policy, circumstances, look=look)


def test_what_is_steady_is_timed_once(profile: HardwareProfile) -> None:
    bench = Bench(profile, itertools.repeat(2.0))
    for _ in range(5):
        found = bench.time()
        assert not found["cut"].disturbed
        assert found["cut"].conditions == COOL
    assert bench.times == 5
    assert not bench.said


def test_ordinary_noise_is_no_drift(profile: HardwareProfile) -> None:
    bench = Bench(profile, itertools.cycle([2.0, 2.08, 2.15, 1.97]))
    assert not any(bench.time()["cut"].disturbed for _ in range(20))
    assert bench.times == 20


def test_what_was_timed_on_a_slower_machine_is_discarded_and_timed_again(profile: HardwareProfile) -> None:
    bench = Bench(profile, [2.0, 2.6, 2.6, 2.0])
    bench.time()
    found = bench.time()
    assert bench.times == 4
    assert found["cut"].median_ms == pytest.approx(1.0, rel=0.01)
    assert not found["cut"].disturbed
    assert found["cut"].conditions["discarded"] == "2"
    assert bench.said == ["Timed again after 0 s: the dense model is 30 % slower than it was."] * 2


def test_a_speed_that_stays_is_waited_for_once_and_said(profile: HardwareProfile) -> None:
    bench = Bench(profile, itertools.chain([2.0], itertools.repeat(2.6)))
    bench.time()
    marked = bench.time()["cut"]
    assert marked.disturbed
    assert marked.conditions["disturbed_by"] == "the dense model is 30 % slower than it was"
    assert bench.times == 1 + 3
    assert "not waited for again" in bench.said[-1]
    assert not any(bench.time()["cut"].disturbed for _ in range(5))
    assert bench.times == 4 + 5


def test_a_machine_that_wanders_costs_one_wait_and_no_more(profile: HardwareProfile) -> None:
    """Slow, fast, slow, ...: where waiting did not help once, it is not tried again."""
    bench = Bench(profile, itertools.chain([2.0], *([[2.6] * 4, [2.0] * 4] * 20)))
    found = [bench.time()["cut"] for _ in range(40)]
    assert bench.times <= 40 + 2 * POLICY.retries
    assert any(one.disturbed for one in found)
    assert all("disturbed_by" in one.conditions for one in found if one.disturbed)


def test_a_dense_model_beside_other_work_proves_no_drift(profile: HardwareProfile) -> None:
    bench = Bench(profile, [2.0])
    policy = POLICY
    bench.time()

    def loud(state: State, look: Look) -> Timed:
        bench.dense = iter([2.6])
        found = bench._measure(policy, state, look)
        return {name: one.model_copy(update={"disturbed": True}) for name, one in found.items()}

    assert bench.steadiness.insist(loud, policy, bench.said.append)["cut"].disturbed
    assert bench.times == 2


def test_noise_is_told_once_with_what_it_makes_of_the_dense_model(profile: HardwareProfile) -> None:
    bench = Bench(profile, itertools.repeat(2.0))

    def noisy(state: State, look: Look) -> Timed:
        found = bench._measure(POLICY, state, look)
        return {name: one.model_copy(update={"disturbed": True, "high_ms": 2.71}) for name, one in found.items()}

    for _ in range(3):
        bench.steadiness.insist(noisy, POLICY, bench.said.append)
    (said,) = bench.said
    assert said.startswith("Something else slows 'here' down")
    assert "the dense model took 2 to 2.71 ms" in said


@pytest.mark.parametrize("when", [0, 1])
def test_a_device_that_throttles_before_or_after_is_cooled_down(profile: HardwareProfile, when: int) -> None:
    states = [COOL, COOL, COOL, COOL]
    states[2 + when] = HOT
    bench = Bench(profile, itertools.repeat(2.0), states)
    bench.time()
    found = bench.time()["cut"]
    assert bench.times == 3
    assert not found.disturbed
    assert found.conditions["discarded"] == "1"
    assert bench.said == ["Timed again after 0 s: the device is held back (cooled by thermal-cpufreq-0)."]


def test_a_device_that_throttles_in_between_is_seen(profile: HardwareProfile, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("autoprune.devices.steadiness.LOOK_SECONDS", -1.0)
    bench = Bench(profile, itertools.repeat(2.0), [COOL, COOL, HOT, *[COOL] * 200])
    assert not bench.time()["cut"].disturbed
    assert bench.times == 2


def test_a_device_that_throttles_for_good_is_marked_and_waited_for_once(profile: HardwareProfile) -> None:
    bench = Bench(profile, itertools.repeat(2.0), itertools.repeat(HOT))
    found = [bench.time()["cut"] for _ in range(5)]
    assert all(one.disturbed for one in found)
    assert found[-1].conditions["disturbed_by"] == "the device is held back (cooled by thermal-cpufreq-0)"
    assert bench.times == 5 + POLICY.retries


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"throttle_events": "5"}, "throttled 2 times meanwhile"),
        ({"clock_limit_mhz": "1500 1200"}, "limit of a clock is 1500 1200 MHz, and was 1500 1500"),
        ({"governor": "powersave"}, "governor is 'powersave', and was 'schedutil'"),
    ],
)
def test_what_else_shows_that_it_is_held_back(profile: HardwareProfile, change: State, says: str) -> None:
    bench = Bench(profile, itertools.repeat(2.0), [COOL, {**COOL, **change}])
    assert bench.time()["cut"].conditions["discarded"] == "1"
    assert says in bench.said[0]


def test_what_became_of_the_conditions_is_kept(profile: HardwareProfile) -> None:
    bench = Bench(profile, itertools.repeat(2.0), [COOL, {**COOL, "temperature_c": "63"}])
    found = bench.time()["cut"]
    assert found.conditions == {**COOL, "temperature_c_after": "63"}


def test_another_power_mode_is_another_device(profile: HardwareProfile) -> None:
    bench = Bench(profile, itertools.repeat(2.0), [{"power_mode": "MAXN"}] * 2 + [{"power_mode": "15W"}] * 2)
    bench.time()
    with pytest.raises(DeviceError, match=r"power mode '15W' now, and was in 'MAXN'"):
        bench.time()


def test_without_retries_it_is_marked_at_once(profile: HardwareProfile) -> None:
    bench = Bench(profile, [2.0, 2.6])
    policy = POLICY.model_copy(update={"retries": 0})
    bench.time(policy)
    assert bench.time(policy)["cut"].disturbed
    assert bench.times == 2


def test_a_device_that_says_nothing_of_itself_is_timed_all_the_same(
    profile: HardwareProfile, artifact: Artifact, inputs: Arrays
) -> None:
    device = FakeDevice(profile)
    assert not device.conditions()
    for _ in range(2):
        assert device.latencies({"one": artifact}, inputs, profile.timing)["one"].median_ms > 0
