"""A whole search over ssh, with a connection that breaks."""

import contextlib
from pathlib import Path

import psutil
import pytest

import autoprune
from autoprune import evaluate
from autoprune.engine import Silent, Status
from autoprune.errors import DeviceError
from autoprune.study import RunDirectory
from tests.devices import sshd
from tests.engine.conftest import SMALL

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
    monkeypatch.setattr(evaluate, "PAUSES_S", (0.1, 0.1))
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
    monkeypatch.setattr(evaluate, "PAUSES_S", (0.1, 0.1))
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
