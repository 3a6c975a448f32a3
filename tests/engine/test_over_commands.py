"""A search on a device that has nothing but command lines, and fails now and then."""

import sys
from pathlib import Path

import pytest

import autoprune
from autoprune.errors import TargetError

TOOL = """\
import sys, time
import numpy as np, onnxruntime
board, do, name, *rest = sys.argv[1:]
calls = int(open(board + "/calls").read()) + 1
open(board + "/calls", "w").write(str(calls))
if calls % 7 == 0:
    sys.exit("lost contact")
if do == "push":
    open(board + "/" + name, "wb").write(open(rest[0], "rb").read())
else:
    session = onnxruntime.InferenceSession(board + "/" + name)
    feeds = {node.name: np.load(f"{rest[0]}/{n}.npy") for n, node in enumerate(session.get_inputs())}
    session.run(None, feeds)
    began = time.perf_counter()
    for _ in range(int(rest[1])):
        session.run(None, feeds)
    print("mean", (time.perf_counter() - began) / int(rest[1]), "s")
"""
PROFILE = """\
name: board
description: a folder
runtime: bench
connection: command
command:
  push: [{python}, {tool}, {folder}, push, "{{name}}", "{{artifact}}"]
  run: [{python}, {tool}, {folder}, run, "{{name}}", "{{inputs}}", "{{runs}}"]
  parse: {{pattern: 'mean ([0-9.e-]+) s', unit: s, gives: mean}}
timing: {{warmup_ms: 2, blocks: 6, block_ms: 2, settle_percent: 5000, max_seconds: 60}}
capabilities: {{channel_multiple: 8}}
"""


@pytest.fixture
def target(tmp_path: Path) -> str:
    folder = tmp_path / "board"
    folder.mkdir()
    (folder / "calls").write_text("0")
    (tmp_path / "tool.py").write_text(TOOL)
    path = tmp_path / "board.yaml"
    path.write_text(PROFILE.format(python=sys.executable, tool=tmp_path / "tool.py", folder=folder))
    return str(path)


@pytest.mark.slow
def test_every_trial_is_scored(
    target: str, quick: dict[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("autoprune.evaluate.evaluator.PAUSES_S", (0.0,) * 8)
    run = autoprune.search(**{**quick, "target": target}, strategy="tpe", trials=2, seed=1, out=tmp_path / "run")
    assert "bench" in run.report.read_text()
    records = [path.read_text() for path in (run.directory / "trials").glob("*.json")]
    assert len(records) >= 2
    for record in records:
        assert '"success"' in record
        assert "a sample is the mean of" in record
        assert "checked on this machine, not on the device" in record


def test_memory_is_no_objective_of_such_a_device(target: str, quick: dict[str, str], tmp_path: Path) -> None:
    with pytest.raises(TargetError, match="does not tell how much memory"):
        autoprune.search(
            **{**quick, "target": target}, objectives=("accuracy", "peak_memory_bytes"), out=tmp_path / "run"
        )
    assert not (tmp_path / "run").exists()
