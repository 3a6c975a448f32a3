"""Several devices at once: each measures one candidate, and the search is the same as on devices of any speed."""

import contextlib
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from autoprune.devices import Arrays, Session
from autoprune.devices.lease import OnWait, ignore, lease
from autoprune.devices.pool import Pool
from autoprune.engine import Silent, Status, calibrate, configure
from autoprune.engine.loop import run_trials
from autoprune.engine.prepare import prepare
from autoprune.engine.tables import measure_tables
from autoprune.errors import DeviceError
from autoprune.evaluate import Evaluator
from autoprune.hardware import HardwareProfile
from autoprune.latency import Effort
from autoprune.pareto import Goals
from autoprune.records import Artifact
from autoprune.strategies import strategy as named
from autoprune.study import Ledger, RunDirectory
from autoprune.testing import FakeDevice

TRIALS = 8
SPACE = """\
name: cheap
description: closed-form recovery alone
keep: {min: 0.25, levels: 4}
criterion: [l2]
recover: [{methods: [lstsq]}, {methods: [bn]}]
"""


class Bench:
    """Three boards; how long each holds a lease, which are broken, and what was seen of them."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.seconds = dict.fromkeys("abc", 0.5)
        self.broken: set[str] = set()
        self.now: dict[str, int] = {}
        self.most, self.most_of_one = 0, 0
        self.overlaps = 0
        self._counting = threading.Lock()

    def pool(self, profile: HardwareProfile, notify: OnWait) -> Pool:
        """As `open_device` opens it."""
        boards = [Board(profile.model_copy(update={"connection": name}), self) for name in "abc"]
        return Pool(profile, boards, notify=notify)

    @contextlib.contextmanager
    def at_work(self, name: str) -> Iterator[None]:
        """Count it meanwhile."""
        with self._counting:
            self.now[name] = self.now.get(name, 0) + 1
            self.most = max(self.most, sum(map(bool, self.now.values())))
            self.most_of_one = max(self.most_of_one, self.now[name])
            self.overlaps += sum(self.now.values()) > 1
        try:
            yield
        finally:
            with self._counting:
                self.now[name] -= 1


class Board(FakeDevice):
    """One of them; a lease may be taken again."""

    def __init__(self, profile: HardwareProfile, bench: Bench) -> None:
        super().__init__(profile)
        self.bench, self.name = bench, profile.connection
        self.lease_name = f"test-{abs(hash(bench.folder))}-{self.name}"

    def facts(self) -> dict[str, str]:
        return {"chip": "A", "runtime_version": "1"}

    @contextlib.contextmanager
    def lease(self, *, on_wait: OnWait = ignore) -> Iterator[None]:
        with lease(self.lease_name, on_wait=on_wait), self.bench.at_work(self.name):
            time.sleep(self.bench.seconds[self.name])
            yield

    @contextlib.contextmanager
    def open(self, artifact: Artifact, inputs: Arrays) -> Iterator[Session]:
        if self.name in self.bench.broken:
            raise DeviceError(f"{self.name} is lost.")
        with super().open(artifact, inputs) as session:
            yield session


class Listener(Silent):
    """Keeps what it is told."""

    def __init__(self) -> None:
        self.told: list[str] = []

    def message(self, text: str) -> None:
        self.told.append(text)


@pytest.fixture
def bench(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Bench:
    bench = Bench(tmp_path)
    monkeypatch.setattr("autoprune.engine.prepare.open_device", bench.pool)
    monkeypatch.setattr("autoprune.evaluate.evaluator.PAUSES_S", (0.05,) * 8)
    return bench


@pytest.fixture
def searched(bench: Bench, quick: dict[str, str], tmp_path: Path) -> Callable[..., Ledger]:
    """Run the trials of a search, or the rest of them; what is in its ledger then."""
    (space := tmp_path / "space.yaml").write_text(SPACE)
    prepared = prepare(configure(**{**quick, "space": str(space)}, trials=TRIALS, seed=3), Silent())

    def search(name: str = "run", *, observer: Silent | None = None, strategy: str = "tpe") -> Ledger:
        device = bench.pool(prepared.config.profile, (observer or Silent()).message)
        folder = tmp_path / name
        directory = RunDirectory(folder) if folder.is_dir() else RunDirectory.create(folder)
        evaluator = Evaluator(prepared.task, prepared.graph, device, work=directory.work)
        chosen = named(strategy)
        tables = measure_tables(prepared, evaluator, Silent()) if chosen.needs_tables else None
        search = chosen.begin(prepared.space, seed=3, tables=tables, goals=Goals())
        with contextlib.closing(Ledger(directory, prepared.objectives, search.suggest)) as ledger:
            run_trials(prepared, evaluator, ledger, observer or Silent(), search=search, screen=None)
        return ledger

    return search


def test_all_measure_at_once_and_none_two_candidates(bench: Bench, searched: Callable[..., Ledger]) -> None:
    ledger = searched()
    assert len(ledger.order) == TRIALS
    assert all(record.score for record in ledger.records.values())
    assert bench.most == 3
    assert bench.most_of_one == 1


@pytest.mark.parametrize("strategy", ["tpe", "guided", "netadapt"])
def test_which_board_is_slow_changes_nothing(bench: Bench, searched: Callable[..., Ledger], strategy: str) -> None:
    first = searched("first", strategy=strategy).order
    assert bench.overlaps >= TRIALS // 2, "this strategy asks for one after the other"
    bench.seconds = {"a": 0.05, "b": 0.5, "c": 0.05}
    assert searched("second", strategy=strategy).order == first


def test_a_board_that_is_lost_costs_no_trial(bench: Bench, searched: Callable[..., Ledger]) -> None:
    bench.broken, bench.seconds = {"b"}, {"a": 1.0, "b": 0.0, "c": 1.0}
    observer = Listener()
    ledger = searched(observer=observer)
    assert len(ledger.order) == TRIALS
    assert all(record.score for record in ledger.records.values())
    assert [said for said in observer.told if said.startswith("b is put aside, 2 go on without it")]


def test_a_run_that_all_left_goes_on_as_if_they_had_not(
    bench: Bench, searched: Callable[..., Ledger], tmp_path: Path
) -> None:
    class Unplug(Silent):
        """Breaks all of them when some trials are done."""

        def status(self, status: Status) -> None:
            if status.done == 4:
                bench.broken = set("abc")

    bench.seconds = dict.fromkeys("abc", 0.05)
    with pytest.raises(DeviceError, match="is lost"):
        searched(observer=Unplug())
    assert {path.name for path in (tmp_path / "run").rglob("*.onnx")} == {"dense.onnx"}
    bench.broken = set()
    assert searched().order == searched("whole").order


def test_a_calibration_times_recipes_on_all(
    bench: Bench, quick: dict[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    effort = Effort(most=0, held_out=12, together=4, block_ms=1)
    table = calibrate(configure(**quick), observer=Silent(), effort=effort)
    held_out = {len(one.held_out) for one in table.tables.values()}
    assert held_out == {9}, "all but the dense model and six that are cut alone"
    assert bench.most >= 2
    assert bench.most_of_one == 1
