"""Several identical devices as one: which measures, which is put aside, which are refused."""

import contextlib
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from autoprune.devices import Arrays, Session, measure_together, open_device
from autoprune.devices.lease import OnWait, ignore, lease
from autoprune.devices.pool import FAILURES, Pool
from autoprune.errors import DeviceError, DocumentError, StageError, TargetError
from autoprune.hardware import HardwareProfile, TimingPolicy, load_profile
from autoprune.records import Artifact
from autoprune.testing import FakeDevice, steady

QUICK = TimingPolicy(warmup_ms=1, blocks=6, block_ms=1, settle_percent=500)


class OneOfMany(FakeDevice):
    """A scripted device that can be lost."""

    def __init__(self, profile: HardwareProfile) -> None:
        super().__init__(profile, script=lambda artifact: steady(self.speed))
        self.lease_name = f"test-{profile.connection}"
        self.chip, self.mode, self.speed = "A", "MAXN", 1.0
        self.lost = False
        self.opened = 0

    def conditions(self) -> dict[str, str]:
        return {"power_mode": self.mode}

    def facts(self) -> dict[str, str]:
        if self.lost:
            raise DeviceError(f"{self.profile.connection} is lost.")
        return {"chip": self.chip, "runtime_version": "1"}

    @contextlib.contextmanager
    def lease(self, *, on_wait: OnWait = ignore) -> Iterator[None]:
        with lease(self.lease_name, on_wait=on_wait):
            yield

    @contextlib.contextmanager
    def open(self, artifact: Artifact, inputs: Arrays) -> Iterator[Session]:
        if self.lost:
            raise DeviceError(f"{self.profile.connection} is lost.")
        self.opened += 1
        with super().open(artifact, inputs) as session:
            yield session


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("autoprune.devices.pool.LEASE_SECONDS", 2.0)


@pytest.fixture
def told() -> list[str]:
    return []


@pytest.fixture
def devices(profile: HardwareProfile, tmp_path: Path) -> list[OneOfMany]:
    return [OneOfMany(profile.model_copy(update={"connection": f"{tmp_path.name}-{n}"})) for n in "abc"]


@pytest.fixture
def pool(profile: HardwareProfile, devices: list[OneOfMany], told: list[str]) -> Pool:
    return Pool(profile, devices, notify=told.append)


@pytest.fixture
def time(pool: Pool, artifact: Artifact, inputs: Arrays) -> Callable[[], str]:
    """Time a candidate and a reference; where."""

    def pair() -> str:
        with pool.lease(), pool.open(artifact, inputs) as one, pool.open(artifact, inputs) as other:
            circumstances = pool.circumstances("fp32")
            timed = measure_together({"c": one, "r": other}, QUICK, dict.fromkeys("cr", circumstances))
        assert timed["c"].conditions["connection"] == timed["r"].conditions["connection"]
        return timed["c"].conditions["connection"][-1]

    return pair


def test_a_pair_is_timed_on_one_device(time: Callable[[], str], devices: list[OneOfMany]) -> None:
    assert time() == "a"
    assert [device.opened for device in devices] == [2, 0, 0]


def test_whichever_is_free_measures(time: Callable[[], str], devices: list[OneOfMany]) -> None:
    with held(devices[0]):
        assert time() == "b"
    assert time() == "a"


@contextlib.contextmanager
def held(device: OneOfMany) -> Iterator[None]:
    """By somebody else: a lock of the same file that is not this thread's."""
    import filelock

    from autoprune.devices.lease import lock_path

    with filelock.FileLock(lock_path(device.lease_name), is_singleton=False):
        yield


def test_where_all_are_in_use_it_waits_and_says_so(
    pool: Pool, devices: list[OneOfMany], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("autoprune.devices.pool.LEASE_SECONDS", 0.0)
    monkeypatch.setattr("autoprune.devices.pool.POLL_SECONDS", 0.0)
    waited: list[str] = []
    with contextlib.ExitStack() as others:
        for device in devices:
            others.enter_context(held(device))
        with pytest.raises(StageError, match="still in use") as caught, pool.lease(on_wait=waited.append):
            pass
    assert caught.value.kind == "busy"
    assert len(waited) == 1


def test_a_lease_may_be_taken_again(pool: Pool, devices: list[OneOfMany]) -> None:
    with pool.lease(), pool.lease():
        pass
    with held(devices[0]):
        pass


def test_one_that_keeps_failing_is_put_aside_and_the_others_go_on(
    time: Callable[[], str], pool: Pool, devices: list[OneOfMany], told: list[str]
) -> None:
    assert time() == "a"
    devices[0].lost = devices[1].lost = True
    failed, on = 0, []
    for _ in range(12):
        try:
            with held(devices[2]) if failed < 2 * FAILURES else contextlib.nullcontext():
                on.append(time())
        except DeviceError:
            failed += 1
    assert set(on) == {"c"}
    assert failed == 2 * FAILURES
    assert [f"-{name} is put aside" in message for name, message in zip("ab", told, strict=True)] == [True, True]
    assert "is lost" in told[0]
    devices[0].lost = False
    assert time() == "c", "for as long as this process lives"


def test_a_failure_now_and_then_puts_none_aside(
    time: Callable[[], str], devices: list[OneOfMany], told: list[str]
) -> None:
    time()
    for _ in range(2 * FAILURES):
        devices[0].lost = True
        with pytest.raises(DeviceError), held(devices[1]), held(devices[2]):
            time()
        devices[0].lost = False
        with held(devices[1]), held(devices[2]):
            time()
    assert told == []


def test_the_last_one_stays_and_fails_as_one_that_is_alone(
    time: Callable[[], str], devices: list[OneOfMany], told: list[str]
) -> None:
    time()
    for device in devices:
        device.lost = True
    for _ in range(5 * FAILURES):
        with pytest.raises(DeviceError, match="is lost"):
            time()
    assert len(told) == 2
    for device in devices:
        device.lost = False
    assert time()


def test_one_that_is_away_at_the_start_is_put_aside(pool: Pool, devices: list[OneOfMany], told: list[str]) -> None:
    devices[0].lost = True
    assert pool.facts()["chip"] == "A"
    assert len(told) == 1
    assert "2 go on without it" in told[0]


def test_none_at_the_start(pool: Pool, devices: list[OneOfMany]) -> None:
    for device in devices:
        device.lost = True
    with pytest.raises(DeviceError, match="is lost"):
        pool.facts()


def test_devices_that_differ_are_refused(pool: Pool, devices: list[OneOfMany]) -> None:
    devices[2].chip = "B"
    with pytest.raises(TargetError, match=r"not identical: chip is A on .*-a, and B on .*-c"):
        pool.facts()


def test_devices_in_different_power_modes_are_refused(pool: Pool, devices: list[OneOfMany]) -> None:
    devices[1].mode = "15W"
    with pytest.raises(TargetError, match=r"power_mode is MAXN on .*-a, and 15W on .*-b"):
        pool.facts()


def test_a_slower_member_has_not_drifted(
    pool: Pool, devices: list[OneOfMany], artifact: Artifact, inputs: Arrays, told: list[str]
) -> None:
    devices[1].speed = 1.3
    for busy in ((), (devices[0], devices[2])):
        with contextlib.ExitStack() as others:
            for device in busy:
                others.enter_context(held(device))
            found = pool.latencies({"reference": artifact}, inputs, QUICK, tell=told.append)["reference"]
            assert "disturbed_by" not in found.conditions
    assert found.conditions["connection"].endswith("-b")
    assert told == []


def test_all_clocks_are_held(pool: Pool, devices: list[OneOfMany], told: list[str]) -> None:
    with pool.steady_clocks(told.append):
        pass
    assert len(told) == len(devices)


def test_a_pool_of_boards_with_one_profile(tmp_path: Path, artifact: Artifact, inputs: Arrays) -> None:
    text = """\
name: boards
description: two of them
runtime: bench
connections: [command://one, command://two]
command:
  run: [sh, -c, 'sleep 0.01; echo 0.000$(date +%N)', "{address}"]
  parse: {pattern: '^([0-9.]+)$', unit: s, gives: mean}
timing: {warmup_ms: 1, blocks: 6, block_ms: 1, settle_percent: 9999}
"""
    (tmp_path / "boards.yaml").write_text(text)
    pool = open_device(load_profile(str(tmp_path / "boards.yaml")))
    assert isinstance(pool, Pool)
    with pool.lease(), pool.open(artifact, inputs) as session:
        assert len(session.run(3)) == 1
        assert pool.conditions()["connection"] == "command://one"


def test_connections_given_go_before_the_profiles(tmp_path: Path) -> None:
    several = load_profile("cpu", connection=["ssh://a", "ssh://b"])
    assert several.connections == ("ssh://a", "ssh://b")
    assert load_profile("cpu", connection=["ssh://a"]).connections == ()
    with pytest.raises(TargetError, match="given twice"):
        load_profile("cpu", connection=["ssh://a", "ssh://a"])
    (tmp_path / "b.yaml").write_text("name: b\ndescription: x\nextends: cpu\nconnections: ['ssh://a', 'ssh://a']\n")
    with pytest.raises(DocumentError, match="named twice"):
        load_profile(str(tmp_path / "b.yaml"))


def test_every_member_needs_an_address(profile: HardwareProfile) -> None:
    with pytest.raises(TargetError, match="no address"):
        open_device(profile.model_copy(update={"connections": ("ssh://a", "ftp://b")}))
