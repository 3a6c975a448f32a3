"""Calibration of a real model on this machine, in a hurry; killed, repeated, torn."""

import json
from dataclasses import replace
from itertools import count
from pathlib import Path
from types import SimpleNamespace
from typing import cast

import numpy as np
import pytest

from autoprune import engine
from autoprune.devices.steadiness import REFERENCE
from autoprune.engine import Silent
from autoprune.engine.prepare import prepare
from autoprune.evaluate import Evaluator
from autoprune.hardware import TimingPolicy
from autoprune.latency import Effort, LatencyTable, Store, arithmetic
from autoprune.latency.calibrate import plain
from autoprune.latency.plan import scattered
from autoprune.records import Artifact, Measurement
from tests.cli.conftest import Command
from tests.engine.conftest import SMALL
from tests.factories import measurement

EFFORT = Effort(tolerance_percent=0.01, most=4, held_out=4, together=4, block_ms=1)


class Stop(Silent):
    """Counts what is timed; Ctrl-C after ``after`` batches."""

    def __init__(self, after: float = float("inf")) -> None:
        self.after, self.batches = after, 0
        self.said: list[str] = []

    def stage(self, text: str) -> None:
        self.said.append(text)
        self.batches += text.startswith("timing recipes")
        if self.batches > self.after:
            raise KeyboardInterrupt


@pytest.fixture
def cache(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path / "cache"


def calibrated(quick: dict[str, str], observer: Stop, effort: Effort = EFFORT) -> LatencyTable:
    config = engine.configure(task=str(SMALL), target=quick["target"], space=quick["space"])
    return engine.calibrate(config, observer=observer, effort=effort)


def test_a_killed_calibration_goes_on_where_it_was(quick: dict[str, str], cache: Path) -> None:
    first = Stop(after=2)
    with pytest.raises(KeyboardInterrupt):
        calibrated(quick, first)
    (folder,) = (cache / "autoprune" / "latency").iterdir()
    before = {path.name: path.stat().st_mtime_ns for path in folder.glob("*.json")}
    assert before
    table = calibrated(quick, Stop())
    assert {path.name: path.stat().st_mtime_ns for path in folder.glob("*.json")}.items() >= before.items()
    assert set(table.tables) == {"fp32", "int8"}
    assert table.tables["fp32"].dense_share == pytest.approx(1.0, abs=0.3)
    assert {len(one.held_out) for one in table.tables.values()} == {4}
    assert {one.again is None for one in table.observations if one.purpose == "held-out"} == {False}
    assert {one.again is None for one in table.observations if one.purpose != "held-out"} == {True}
    again = Stop()
    assert calibrated(quick, again).observations == table.observations
    assert again.batches == 0


def test_precisions_take_turns(quick: dict[str, str], cache: Path) -> None:
    observer = Stop()
    calibrated(quick, observer, replace(EFFORT, most=8, sweeps=False))
    joint = [text.split()[3] for text in observer.said if text.startswith("timing recipes") and "(joint)" in text]
    assert joint == ["fp32", "int8", "fp32", "int8"]


def test_a_precision_that_slows_down_by_itself_bends_no_table(
    quick: dict[str, str], cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A model takes as long as its file is large, and in INT8 half as long again in every other round."""
    rounds = count()

    def timed(self: Evaluator, artifacts: dict[str, Artifact], policy: TimingPolicy) -> dict[str, Measurement]:
        slower = 1.0 + 0.5 * (next(rounds) % 2)
        return {
            name: measurement(one.size_bytes / 1e5 * (slower if one.precision == "int8" else 1.0))
            for name, one in {**artifacts, REFERENCE: self.reference}.items()
        }

    monkeypatch.setattr(Evaluator, "time", timed)
    table = calibrated(quick, Stop(), replace(EFFORT, most=12))
    fp32, int8 = table.tables["fp32"], table.tables["int8"]
    assert int8.dense_high == pytest.approx(1.5 * int8.dense_low)
    assert int8.dense_low <= int8.dense_share <= int8.dense_high
    assert fp32.dense_low == fp32.dense_share == fp32.dense_high == 1
    assert int8.bias.worst_percent < 0.5
    assert int8.bias.repeat_percent == pytest.approx(0)


def test_some_recipes_are_drawn_from_everywhere(quick: dict[str, str], cache: Path) -> None:
    table = calibrated(quick, Stop())
    prepared = prepare(engine.configure(task=str(SMALL), target=quick["target"], space=quick["space"]), Silent())
    known = arithmetic(cast(Evaluator, SimpleNamespace(graph=prepared.graph)), prepared.space)
    drawn = scattered(known, EFFORT.scattered, rng=np.random.default_rng((EFFORT.seed + 2, 0)))
    timed = {one.recipe.id for one in table.observations if one.purpose != "held-out"}
    assert {plain(kept, precision).id for kept in drawn for precision in ("fp32", "int8")} <= timed


def test_no_table_is_judged_by_what_it_learnt_from(quick: dict[str, str], cache: Path) -> None:
    table = calibrated(quick, Stop())
    learnt = {one.recipe.id for one in table.observations if one.purpose != "held-out"}
    for precision in ("fp32", "int8"):
        judged = [one.recipe for one in table.tables[precision].held_out]
        assert len(set(judged)) == EFFORT.held_out
        assert not learnt & set(judged)


def test_a_torn_observation_is_timed_again(tmp_path: Path) -> None:
    store = Store(tmp_path)
    (tmp_path / "abc.json").write_text('{"recipe": ')
    assert store.read() == {}


def test_the_command_writes_table_and_plots(
    command: Command, quick: dict[str, str], cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("autoprune.engine.calibration.Effort", lambda: EFFORT)
    given = [text for key, value in quick.items() for text in (f"--{key}", value)]
    done = command("calibrate", *given, "--out", tmp_path / "table")
    assert done.code == 0, done.err
    assert "conv1" in done.out
    assert "Kendall" in done.out or "KENDALL" in done.out
    table = LatencyTable.model_validate_json((tmp_path / "table" / "latency.json").read_text())
    page = (tmp_path / "table" / "latency.html").read_text()
    assert "Width against latency, int8" in page
    assert "http://" not in page.split('id="plotly"')[0]
    found = json.loads(command("calibrate", *given, "--out", tmp_path / "table", "--json").out)
    assert found["key"] == table.key
