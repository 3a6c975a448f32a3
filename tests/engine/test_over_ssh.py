"""A whole search over ssh, with a connection that breaks."""

import contextlib
import os
import re
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest

import autoprune
from autoprune.engine import Silent, Status
from autoprune.errors import DeviceError
from autoprune.evaluate import evaluator
from autoprune.study import RunDirectory
from tests.devices import netns, sshd
from tests.engine.conftest import QUICK, SMALL

pytestmark = [pytest.mark.slow, pytest.mark.skipif(not sshd.available(), reason=sshd.MISSING)]
TRIALS = 6


class Breaker(Silent):
    """Kills every ssh of this process after two trials; tells ``sooner`` first."""

    def __init__(self, sooner: Path | None = None) -> None:
        self.broke, self.sooner = 0, sooner

    def status(self, status: Status) -> None:
        if status.done == 2 and not self.broke:
            if self.sooner:
                self.sooner.unlink()
            for child in psutil.Process().children(recursive=True):
                with contextlib.suppress(psutil.NoSuchProcess):
                    if child.name() == "ssh":
                        child.kill()
                        self.broke += 1


def test_a_connection_that_breaks_costs_nothing(
    server: Path, board: str, quick: dict[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(evaluator, "PAUSES_S", (0.1, 0.1))
    breaker = Breaker()
    run = autoprune.search(
        task=str(SMALL),
        target=board,
        connect="ssh://device",
        space=quick["space"],
        strategy="random",
        trials=TRIALS,
        out=tmp_path / "run",
        observer=breaker,
    )
    assert breaker.broke
    assert run.document["trials"]["failed"] == 0
    assert run.document["trials"]["total"] == TRIALS
    assert all(member["source"] == "measured" for member in run.front)


def test_a_device_that_stays_away_ends_the_search_and_blames_no_candidate(
    server: Path, board: str, quick: dict[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(evaluator, "PAUSES_S", (0.1, 0.1))
    key = server / "client"
    kept = key.read_text()
    arguments = {"task": str(SMALL), "target": board, "connect": "ssh://device", "space": quick["space"]}
    with pytest.raises(DeviceError, match=r"autoprune resume .*run"):
        autoprune.search(
            **arguments, strategy="random", trials=TRIALS, out=tmp_path / "run", observer=Breaker(sooner=key)
        )
    done = len(list(RunDirectory.open(tmp_path / "run").trials.glob("*.json")))
    assert 2 <= done < TRIALS
    key.write_text(kept)
    key.chmod(0o600)
    run = autoprune.resume(tmp_path / "run")
    assert run.document["trials"]["failed"] == 0
    assert run.document["trials"]["total"] == TRIALS


class Puller(Silent):
    """Does something after two trials, once; keeps what is said."""

    def __init__(self, pull: Callable[[], None]) -> None:
        self.pull, self.pulled, self.said = pull, False, list[str]()

    def status(self, status: Status) -> None:
        if status.done == 2 and not self.pulled:
            self.pulled = True
            self.pull()

    def message(self, text: str) -> None:
        self.said.append(text)


@pytest.fixture
def cable(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[netns.Link]:
    """What a device hangs on, in a network namespace of its own."""
    if not netns.available():
        pytest.skip(netns.MISSING)
    (folder := tmp_path / "there").mkdir()
    with netns.device(folder) as (link, path):
        monkeypatch.setenv("PATH", f"{path}{os.pathsep}{os.environ['PATH']}")
        (tmp_path / "far.yaml").write_text(QUICK + f"connection: ssh://device\npython: {sys.executable}\n")
        yield link


def arguments(quick: dict[str, str], folder: Path) -> dict[str, str]:
    return {"task": str(SMALL), "target": str(folder / "far.yaml"), "space": quick["space"], "strategy": "random"}


def test_a_device_that_drops_off_the_network_and_comes_back_costs_no_trial(
    cable: netns.Link, quick: dict[str, str], tmp_path: Path
) -> None:
    def pull() -> None:
        cable.down()
        threading.Timer(20.0, cable.up).start()

    observer = Puller(pull)
    run = autoprune.search(**arguments(quick, tmp_path), trials=TRIALS, out=tmp_path / "run", observer=observer)
    assert observer.pulled
    assert run.document["trials"]["failed"] == 0
    assert run.document["trials"]["total"] == TRIALS


def test_a_device_that_stays_off_the_network_pauses_the_search_and_says_how_to_go_on(
    cable: netns.Link, quick: dict[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(evaluator, "PAUSES_S", (0.1, 0.1))
        with pytest.raises(DeviceError) as caught:
            autoprune.search(
                **arguments(quick, tmp_path), trials=TRIALS, out=tmp_path / "run", observer=Puller(cable.down)
            )
    said = str(caught.value)
    assert re.search(r"Device 'quick' (is lost|cannot be reached)", said)
    assert "No route to host" in said or "timed out" in said or "not responding" in said
    assert f"when the device is back, go on with: autoprune resume {tmp_path / 'run'}" in said
    done = len(list(RunDirectory.open(tmp_path / "run").trials.glob("*.json")))
    assert 2 <= done < TRIALS
    cable.up()
    run = autoprune.resume(tmp_path / "run")
    assert run.document["trials"]["failed"] == 0
    assert run.document["trials"]["total"] == TRIALS
