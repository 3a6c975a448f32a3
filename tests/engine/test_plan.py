"""A search for a device that is not at hand, and what becomes of it once it is."""

import json
from collections.abc import Callable
from io import StringIO
from pathlib import Path

import pytest
from rich.console import Console

import autoprune
from autoprune import engine
from autoprune.devices.runtimes.onnxruntime import OnnxRuntimeDevice
from autoprune.engine import Silent
from autoprune.engine.story import read_story
from autoprune.errors import DeviceError, RunError, TargetError
from autoprune.records import Success
from autoprune.report import render_html, render_terminal
from autoprune.study import RunDirectory
from tests.devices import sshd
from tests.engine.conftest import SMALL

SHEET = """\
connection: given
hardware:
  processor: what its maker says
  peak_gflops: {fp32: 50, int8: 100}
  bandwidth_gb_per_s: 10
"""


class Listener(Silent):
    """Remembers what was said."""

    def __init__(self) -> None:
        self.said: list[str] = []

    def message(self, text: str) -> None:
        self.said.append(text)


@pytest.fixture(autouse=True)
def _cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


@pytest.fixture
def planned(quick: dict[str, str], tmp_path: Path) -> str:
    """A profile with a data sheet and no address."""
    path = tmp_path / "planned.yaml"
    path.write_text(Path(quick["target"]).read_text() + SHEET)
    return str(path)


@pytest.fixture
def plan(quick: dict[str, str], planned: str, tmp_path: Path) -> Callable[..., autoprune.Run]:
    def search(target: str = planned, name: str = "plan", **more: object) -> autoprune.Run:
        given: dict[str, object] = {"strategy": "random", "trials": 4, **more}
        return autoprune.search(task=str(SMALL), target=target, space=quick["space"], out=tmp_path / name, **given)  # type: ignore[arg-type]

    return search


def terminal(root: Path) -> str:
    console = Console(file=StringIO(), width=120)
    render_terminal(read_story(root), console)
    return console.file.getvalue()  # type: ignore[attr-defined, no-any-return]


def test_what_is_estimated_says_so_everywhere(plan: Callable[..., autoprune.Run]) -> None:
    listener = Listener()
    run = plan(observer=listener)
    assert any("nothing is measured" in said for said in listener.said)
    for record in RunDirectory.open(run.directory).records().values():
        assert isinstance(record.outcome, Success)
        assert record.outcome.score.latency.source == "estimated"
    assert {member["source"] for member in (*run.front, run.document["baseline"])} == {"estimated"}
    assert run.document["baseline"]["latency_n"] == 0
    assert run.document["baseline"]["error_factor"] == pytest.approx(3)
    shown = terminal(run.directory)
    assert "\u2248" in shown
    assert f"autoprune measure {run.directory} --connect ssh://user@host" in shown
    page = render_html(read_story(run.directory))
    assert "Nothing was measured on quick" in page
    assert "Estimated latency" in page
    assert "estimated latency, ms" in page
    assert 'id="intervals"' not in page


def test_a_plan_cannot_promise_memory_or_make_a_table(
    plan: Callable[..., autoprune.Run], planned: str, quick: dict[str, str], tmp_path: Path
) -> None:
    with pytest.raises(TargetError, match="peak_memory_bytes cannot be estimated"):
        plan(objectives=("accuracy", "peak_memory_bytes"))
    with pytest.raises(TargetError, match="energy_mj cannot be estimated"):
        plan(objectives=("accuracy", "energy_mj"))
    assert not (tmp_path / "plan").exists()
    config = engine.configure(task=str(SMALL), target=planned, space=quick["space"])
    with pytest.raises(TargetError, match=r"A latency table is measured.*--connect"):
        engine.calibrate(config, observer=Silent())


def test_guided_searches_by_estimates(plan: Callable[..., autoprune.Run]) -> None:
    assert {member["source"] for member in plan(strategy="guided").front} == {"estimated"}


def test_what_was_measured_is_not_measured_as_a_plan(plan: Callable[..., autoprune.Run], quick: dict[str, str]) -> None:
    run = plan(quick["target"])
    with pytest.raises(RunError, match="measured on its device all along"):
        engine.measure(run.directory, target=quick["target"])


def test_measuring_needs_to_know_where(plan: Callable[..., autoprune.Run]) -> None:
    with pytest.raises(TargetError, match=r"Say where 'quick' is: --connect"):
        engine.measure(plan().directory)


def test_measured_here_the_estimates_stay_beside(
    plan: Callable[..., autoprune.Run], quick: dict[str, str], planned: str
) -> None:
    run = plan()
    estimates = {member["recipe"]: member["latency_ms"] for member in (*run.front, run.document["baseline"])}
    listener = Listener()
    measured = engine.measure(run.directory, connect="local", observer=listener)
    assert any("times as long as estimated" in said for said in listener.said)
    for member in (*measured.front, measured.document["baseline"]):
        assert member["source"] == "measured"
        assert member["latency_n"] > 0
        if member["recipe"] in estimates:
            assert member["estimated_ms"] == pytest.approx(estimates[member["recipe"]])
    shown = terminal(run.directory)
    assert "\u2248" not in shown
    page = render_html(read_story(run.directory))
    assert "Nothing was measured" not in page
    assert "finalists were measured afterwards" in page
    assert json.loads((run.directory / "pareto.json").read_text()) == measured.document
    with pytest.raises(RunError, match="Latencies of two devices are not mixed"):
        autoprune.resume(run.directory, trials=5)  # what was measured has improved the estimates
    again = plan(name="again")
    factor = again.document["baseline"]["error_factor"]
    truth, estimate = measured.document["baseline"]["latency_ms"], again.document["baseline"]["latency_ms"]
    assert 1 / factor < truth / estimate < factor


def test_measured_where_int8_overflows_it_is_said(
    plan: Callable[..., autoprune.Run], monkeypatch: pytest.MonkeyPatch
) -> None:
    run = plan(trials=8)
    assert any(member["precision"] == "int8" for member in run.front)
    for flags in ("avx2 avx512_vnni", "avx2"):
        facts = {"os": "Linux x86_64", "flags": flags}
        monkeypatch.setattr(OnnxRuntimeDevice, "facts", lambda device, facts=facts: facts)
        engine.measure(run.directory, connect="local", observer=(listener := Listener()))
        assert any("without VNNI" in said for said in listener.said) == (flags == "avx2")


@pytest.mark.slow
@pytest.mark.skipif(not sshd.available(), reason=sshd.MISSING)
def test_measured_over_ssh(server: Path, board: str, plan: Callable[..., autoprune.Run], tmp_path: Path) -> None:
    (there := tmp_path / "there.yaml").write_text(Path(board).read_text() + SHEET)
    run = plan(str(there))
    before = run.document
    with pytest.raises(DeviceError):
        engine.measure(run.directory, connect="ssh://nobody")
    assert json.loads((run.directory / "pareto.json").read_text()) == before
    measured = engine.measure(run.directory, connect="ssh://device")
    assert {member["source"] for member in measured.front} == {"measured"}
    assert measured.document["circumstances"]["measured on: runtime"] == "onnxruntime"
