import gc
from collections.abc import Iterator
from pathlib import Path

import pytest

import autoprune
from autoprune.engine import Silent, Status, calibrate, configure
from autoprune.engine.garbage import spared
from autoprune.latency import Effort


@pytest.fixture(autouse=True)
def thawed() -> Iterator[None]:
    Knot.freed = 0
    yield
    gc.unfreeze()


@pytest.fixture
def by_hand() -> Iterator[None]:
    """Garbage is collected when the test says so."""
    gc.disable()
    yield
    gc.enable()


class Knot:
    """Refers to itself, so that only the collector frees it."""

    freed = 0

    def __init__(self) -> None:
        self.itself = self

    def __del__(self) -> None:
        Knot.freed += 1


@pytest.mark.usefixtures("by_hand")
@pytest.mark.parametrize(("frozen", "freed"), [(False, 2), (True, 1)])
def test_what_is_there_already_is_passed_over_until_the_end(frozen: bool, freed: int) -> None:
    """After it too, where the caller had frozen it."""
    Knot()
    if frozen:
        gc.freeze()
    with spared():
        Knot()
        gc.collect()
        assert Knot.freed == 1, "what came later"
    gc.collect()
    assert Knot.freed == freed


def test_it_ends_however_the_work_does() -> None:
    with pytest.raises(KeyboardInterrupt), spared():
        raise KeyboardInterrupt
    assert gc.get_freeze_count() == 0


class Counting(Silent):
    """How many objects are passed over when it is told something."""

    def __init__(self) -> None:
        self.seen = {"stage": 0, "status": 0}

    def stage(self, text: str) -> None:
        self.seen["stage"] = max(self.seen["stage"], gc.get_freeze_count())

    def status(self, status: Status) -> None:
        self.seen["status"] = max(self.seen["status"], gc.get_freeze_count())


def test_trials_and_calibrations_run_so(quick: dict[str, str], tmp_path: Path) -> None:
    observer = Counting()
    autoprune.search(**quick, strategy="random", trials=2, out=tmp_path / "run", observer=observer)
    assert observer.seen["status"] > 10_000
    observer = Counting()
    effort = Effort(held_out=4, most=4, tolerance_percent=50.0)
    calibrate(configure(**quick), observer=observer, effort=effort, fresh=True)
    assert observer.seen["stage"] > 10_000
    assert gc.get_freeze_count() == 0
