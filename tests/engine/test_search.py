"""A whole search in seconds, on real components: every file of the run, and that no result is lost or repeated."""

import dataclasses
import json
import re
import shutil
import signal
import subprocess
import sys
import time
from collections import defaultdict
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NoReturn

import jsonschema
import numpy as np
import onnxruntime
import optuna
import pytest
from optuna.trial import TrialState
from torch import Tensor

import autoprune
from autoprune.devices import Arrays, Device
from autoprune.devices.runtimes.onnxruntime import OnnxRuntimeDevice
from autoprune.engine import Silent, Status, configure, start
from autoprune.engine.loop import tried
from autoprune.engine.story import read_story
from autoprune.errors import RunError, SearchError, StageError, TargetError, UsageError
from autoprune.hardware import TimingPolicy
from autoprune.pareto import dominates, objectives
from autoprune.recipe import DENSE
from autoprune.records import Artifact, Measurement
from autoprune.report.summary import schema
from autoprune.study import RunDirectory
from autoprune.testing import FakeDevice

Arguments = dict[str, str]


@pytest.fixture(scope="module")
def finished(quick: Arguments, tmp_path_factory: pytest.TempPathFactory) -> autoprune.Run:
    return autoprune.search(**quick, trials=10, seed=1, out=tmp_path_factory.mktemp("runs") / "run")


def test_the_front_holds_smaller_models_that_run(
    quick: Arguments, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On a device whose latency is the model's size, so that no noise decides what is on the front."""
    monkeypatch.setattr("autoprune.engine.prepare.open_device", lambda profile, notify: FakeDevice(profile))
    finished = autoprune.search(**quick, strategy="uniform", trials=8, out=tmp_path / "run")
    assert len(finished.front) >= 2
    smallest = min(finished.front, key=lambda model: model["size_bytes"])
    assert smallest["parameters"] < finished.document["baseline"]["parameters"]
    for model in finished.front:
        path = finished.directory / model["model"]
        assert path.stat().st_size == model["size_bytes"]
        session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
        inputs = {session.get_inputs()[0].name: np.zeros((5, 1, 8, 8), np.float32)}
        assert session.run(None, inputs)[0].shape == (5, 10)


class Told(Silent):
    """Keeps what it is told of the best so far."""

    def __init__(self) -> None:
        self.best: list[str] = []

    def status(self, status: Status) -> None:
        self.best.append(status.best)


@pytest.mark.parametrize("speedup", [1.5, 1e6])
def test_the_best_so_far_is_what_the_goal_asks_for(
    quick: Arguments, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, speedup: float
) -> None:
    """The most accurate that is fast enough; while none is, the fastest, and that it misses the goal."""
    monkeypatch.setattr("autoprune.engine.prepare.open_device", lambda profile, notify: FakeDevice(profile))
    told = Told()
    run = autoprune.search(
        **quick, strategy="uniform", trials=8, min_speedup=speedup, observer=told, out=tmp_path / "run"
    )
    scores = [record.score for record in read_story(run.directory).records if record.score]
    reached = max(score.speedup for score in scores)
    enough = [score for score in scores if score.speedup >= min(speedup, reached)]
    best = max(enough, key=lambda score: (score.accuracy, score.speedup))
    short = "" if best.speedup >= speedup else ", which misses the goal"
    assert told.best[-1] == f"{best.speedup:.2f}x at {100 * best.accuracy:.2f} % (validation){short}"
    assert told.best[0] == f"1.00x at {100 * scores[0].accuracy:.2f} % (validation), which misses the goal"


def test_nothing_on_the_front_is_dominated(finished: autoprune.Run) -> None:
    story = read_story(finished.directory)
    scores = [member.score for member in story.front]
    over = objectives(("accuracy", "latency_ms"))
    assert not any(dominates(one, other, over) for one in scores for other in (*scores,))
    for one in finished.front:
        for other in finished.front:
            slower = one["latency_low_ms"] > other["latency_high_ms"]
            assert not (slower and one["accuracy"] < other["accuracy"])


@pytest.mark.parametrize("strategy", ["guided", "tpe"])
def test_a_space_without_fp32_is_compared_with_the_dense_fp32_model(
    quick: Arguments, tmp_path: Path, strategy: str
) -> None:
    space = tmp_path / "int8.yaml"
    space.write_text(
        "name: int8\ndescription: INT8 alone\nkeep: {min: 0.25, levels: 4}\ncriterion: [l2]\nprecision: [int8]\n"
    )
    run = autoprune.search(**{**quick, "space": str(space)}, strategy=strategy, trials=4, out=tmp_path / "run")
    assert run.document["baseline"]["recipe"] == DENSE.id
    assert {record.recipe.precision for record in read_story(run.directory).records[1:]} == {"int8"}
    again = autoprune.resume(run.directory, trials=5)
    assert [record.recipe.id for record in read_story(again.directory).records].count(DENSE.id) == 1


def test_a_guided_search_plans_for_what_it_is_asked(quick: Arguments, tmp_path: Path) -> None:
    goals = ("accuracy", "size_bytes")
    run = autoprune.search(**quick, strategy="guided", trials=8, objectives=goals, out=tmp_path / "run", seed=1)
    dense = run.document["baseline"]
    # its first trials are the solver's answers to a ladder of budgets: of sizes, not of latencies
    shares = sorted(r.score.size_bytes / dense["size_bytes"] for r in read_story(run.directory).records if r.score)
    assert shares[0] < 0.2
    assert len({round(share, 2) for share in shares}) >= 5


def test_pareto_json_keeps_its_published_schema(finished: autoprune.Run) -> None:
    jsonschema.validate(json.loads((finished.directory / "pareto.json").read_text()), schema())


def test_the_run_directory_holds_what_it_promises(finished: autoprune.Run) -> None:
    root = finished.directory
    assert {path.name for path in root.iterdir()} >= {
        "study.db", "trials", "run.json", "finals.json", "log.jsonl", "pareto.json", "front", "report.html",
    }  # fmt: skip
    assert len(list((root / "trials").glob("*.json"))) == 10 + len(screened(root))
    for model in finished.front:
        folder = root / "front" / model["recipe"]
        assert {p.name for p in folder.iterdir()} >= {"model.onnx", "model.safetensors", "recipe.json", "manifest.json"}
    assert not (root / "driver.json").exists()
    assert not list((root / "work").glob("*.onnx.tmp"))


def test_optuna_reads_the_study(finished: autoprune.Run) -> None:
    study = optuna.load_study(study_name=None, storage=f"sqlite:///{finished.directory}/study.db")
    recipes = defaultdict(set)
    for trial in study.get_trials():
        recipes[trial.state].add(trial.user_attrs.get("recipe"))
    assert recipes.pop(TrialState.PRUNED, set()) == screened(finished.directory)
    assert recipes.keys() <= {TrialState.COMPLETE, TrialState.WAITING}


def screened(root: Path) -> set[str]:
    """The recipes that the search screened out: the noise decides which."""
    outcomes = {path.stem: json.loads(path.read_text())["outcome"] for path in (root / "trials").glob("*.json")}
    return {recipe for recipe, outcome in outcomes.items() if outcome["status"] == "screened"}


def test_test_split_is_for_finalists_alone(finished: autoprune.Run) -> None:
    assert {model["split"] for model in finished.front} == {"test"}


def test_the_test_split_scores_an_artifact_once(quick: Arguments, tmp_path: Path) -> None:
    from tests.engine.small import task

    scored: list[int] = []

    def metric(outputs: Tensor, targets: Tensor) -> float:
        scored.append(len(targets))
        return float((outputs.argmax(1) == targets).float().mean())

    test = task().test
    assert test
    own = dataclasses.replace(task(), metric=metric, test=test[:5])
    run = autoprune.search(task=own, target=quick["target"], space=quick["space"], trials=3, out=tmp_path / "run")
    finalists = scored.count(160)
    assert finalists == len(json.loads((run.directory / "finals.json").read_text())["finalists"]) + 1
    extended = autoprune.resume(run.directory, trials=4, task=own)
    assert scored.count(160) <= finalists + 1, "finalists were scored on the test split again"
    assert {one["accuracy"] for one in run.front} >= {
        one["accuracy"] for one in extended.front if one["recipe"] in {known["recipe"] for known in run.front}
    }


def test_what_a_search_rests_on_has_more_time_to_settle(
    quick: Arguments, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The dense model and the finalists; not every candidate."""
    latencies, most = OnnxRuntimeDevice.latencies, []

    def timed(
        self: Device, artifacts: Mapping[str, Artifact], inputs: Arrays, policy: TimingPolicy, **more: Any
    ) -> dict[str, Measurement]:
        most.append(policy.give_up_s)
        return latencies(self, artifacts, inputs, policy, **more)

    monkeypatch.setattr(OnnxRuntimeDevice, "latencies", timed)
    autoprune.search(**quick, strategy="random", trials=3, out=tmp_path / "run")
    assert most == [90, 30, 30, 90]


@pytest.mark.parametrize("precisions", ["[fp32]", "[int8]"])
def test_a_dense_model_that_did_not_settle_is_tried_again(
    quick: Arguments, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, precisions: str
) -> None:
    (space := tmp_path / "space.yaml").write_text(Path(quick["space"]).read_text() + f"precision: {precisions}\n")
    quick = {**quick, "space": str(space)}

    def unsettled(*_: object, **__: object) -> NoReturn:
        raise StageError("The latency did not settle.", kind="unsettled")

    with monkeypatch.context() as noisy:
        noisy.setattr("autoprune.devices.timing.measure_together", unsettled)
        with pytest.raises(SearchError, match=r"The dense model itself failed \(latency\): .* did not settle"):
            autoprune.search(**quick, strategy="random", trials=3, out=tmp_path / "run")
    assert len(autoprune.resume(tmp_path / "run").front) >= 1


def test_the_same_seed_tries_the_same_first_recipes(finished: autoprune.Run, quick: Arguments, tmp_path: Path) -> None:
    again = autoprune.search(**quick, trials=4, seed=1, out=tmp_path / "again")
    first = [record.recipe.id for record in read_story(finished.directory).records][:4]
    assert [record.recipe.id for record in read_story(again.directory).records] == first


def test_three_objectives_none_of_them_latency(quick: Arguments, tmp_path: Path) -> None:
    names = ["accuracy", "size_bytes", "peak_memory_bytes"]
    run = autoprune.search(**quick, trials=4, objectives=names, out=tmp_path / "run")
    assert run.document["objectives"] == names
    assert all(record.score and record.score.peak_memory_bytes for record in read_story(run.directory).records)
    assert min(m["size_bytes"] for m in run.front) < run.document["baseline"]["size_bytes"]


def test_a_task_without_test_split_says_so(quick: Arguments, tmp_path: Path) -> None:
    run = autoprune.search(**{**quick, "task": quick["task"] + ":without_test"}, trials=3, out=tmp_path / "run")
    assert {model["split"] for model in run.front} == {"validation"}
    assert any("no test split" in warning for warning in run.document["warnings"])


def test_how_many_were_disturbed_is_said(finished: autoprune.Run, tmp_path: Path) -> None:
    shutil.copytree(finished.directory, tmp_path / "run")
    trials = sorted((tmp_path / "run" / "trials").glob("*.json"))
    scored = [path for path in trials if '"score"' in path.read_text()]
    for path in scored:
        path.write_text(path.read_text().replace('"disturbed": false', '"disturbed": true'))
    said = f"Something else slowed the device down while {len(scored)} of {len(scored)} candidates were timed."
    assert said in read_story(tmp_path / "run").warnings
    for path in [*scored[:2], tmp_path / "run" / "finals.json"]:
        path.write_text(re.sub(r'"conditions": \{', '"conditions": {"unsettled": "in 20 s", ', path.read_text()))
    warnings = read_story(tmp_path / "run").warnings
    assert f"{said[:-1]}; 2 did not settle and are told by their fastest runs." in warnings
    assert any("models of the front did not settle" in warning for warning in warnings)


def test_a_task_object_needs_no_file(quick: Arguments, tmp_path: Path) -> None:
    from tests.engine.small import task

    run = autoprune.search(task=task(), target=quick["target"], space=quick["space"], trials=2, out=tmp_path / "run")
    with pytest.raises(RunError, match="Task object"):
        autoprune.resume(run.directory, trials=3)
    assert autoprune.resume(run.directory, trials=3, task=task()).document["trials"]["total"] == 3


def test_a_finished_run_is_extended(finished: autoprune.Run) -> None:
    before = {path: path.stat().st_mtime_ns for path in (finished.directory / "trials").iterdir()}
    run = autoprune.resume(finished.directory, trials=12)
    assert run.document["trials"]["total"] == 12
    assert all(path.stat().st_mtime_ns == stamp for path, stamp in before.items()), (
        "a finished result was measured twice"
    )
    with pytest.raises(UsageError, match="cannot take any back"):
        autoprune.resume(finished.directory, trials=5)


def test_changed_code_is_said_before_anything_is_mixed(quick: Arguments, tmp_path: Path) -> None:
    own = tmp_path / "own.py"
    own.write_text(Path(quick["task"]).read_text())
    run = autoprune.search(**{**quick, "task": str(own)}, trials=2, out=tmp_path / "run")
    own.write_text(own.read_text() + "\n# changed\n")
    with pytest.raises(RunError, match="the code that defines the task"):
        autoprune.resume(run.directory, trials=3)
    more = autoprune.resume(run.directory, trials=3, accept_changes=True)
    assert any("the code that defines the task" in warning for warning in more.document["warnings"])


def test_a_changed_device_is_never_mixed(quick: Arguments, tmp_path: Path) -> None:
    run = autoprune.search(**quick, trials=2, out=tmp_path / "run")
    info = json.loads((run.directory / "run.json").read_text())
    info["fingerprints"]["device"] = "another"
    (run.directory / "run.json").write_text(json.dumps(info))
    with pytest.raises(RunError, match="Latencies of two devices are not mixed"):
        autoprune.resume(run.directory, trials=3, accept_changes=True)


def test_an_exhausted_space_ends_the_search(quick: Arguments, tmp_path: Path) -> None:
    tiny = tmp_path / "tiny.yaml"
    tiny.write_text("name: tiny\ndescription: two recipes\nexclude: ['*']\n")
    run = autoprune.search(**{**quick, "space": str(tiny)}, trials=9, out=tmp_path / "run")
    assert run.document["trials"]["total"] == 2


def test_a_collapse_is_an_error_that_keeps_every_result(quick: Arguments, tmp_path: Path) -> None:
    from tests.engine.small import task

    class Fading:
        """Right for the first outputs it is given, which are the dense model's; nothing else is worth anything."""

        dense: Any = None

        def __call__(self, outputs: Any, targets: Any) -> float:
            self.dense = outputs if self.dense is None else self.dense
            n = min(len(outputs), len(self.dense))
            return 0.9 if (outputs[:n] - self.dense[:n]).abs().max() < 1e-3 else 0.1

    broken = dataclasses.replace(task(), metric=Fading())
    with pytest.raises(SearchError, match=r"lost more than half of the dense model's accuracy .* raise keep\.min"):
        autoprune.search(task=broken, target=quick["target"], space=quick["space"], trials=5, out=tmp_path / "run")
    assert len(list((tmp_path / "run" / "trials").iterdir())) >= 5


@pytest.mark.slow
def test_kill_and_resume_lose_nothing(quick: Arguments, tmp_path: Path) -> None:
    out = tmp_path / "run"
    search = [sys.executable, "-m", "autoprune", "search", "--task", quick["task"], "--target", quick["target"]]
    search += ["--space", quick["space"], "--trials", "12", "--out", str(out)]
    resume = [sys.executable, "-m", "autoprune", "resume", str(out)]
    stamps: dict[str, int] = {}
    for attempt, wanted in enumerate((1, 4, 8)):
        driver = subprocess.Popen(
            search if attempt == 0 else resume, stderr=subprocess.DEVNULL, stdout=subprocess.DEVNULL
        )
        deadline = time.monotonic() + 120
        while len(list(out.glob("trials/*.json"))) < wanted and time.monotonic() < deadline and driver.poll() is None:
            time.sleep(0.02)
        driver.send_signal(signal.SIGKILL)
        driver.wait()
        now = {path.name: path.stat().st_mtime_ns for path in out.glob("trials/*.json")}
        assert stamps.items() <= now.items(), "a result was lost or measured again"
        stamps = now
    done = subprocess.run(resume, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    now = {path.name: path.stat().st_mtime_ns for path in out.glob("trials/*.json")}
    assert tried(RunDirectory.open(out).records().values()) == 12
    assert stamps.items() <= now.items()
    study = optuna.load_study(study_name="autoprune", storage=f"sqlite:///{out}/study.db")
    assert TrialState.RUNNING not in {trial.state for trial in study.get_trials()}
    assert DENSE.id in {trial.user_attrs.get("recipe") for trial in study.get_trials()}
    assert RunDirectory.open(out).pareto.is_file()


def test_a_dry_configuration_spends_nothing(quick: Arguments) -> None:
    with pytest.raises(UsageError, match="Unknown strategy"):
        configure(task=quick["task"], strategy="magic")
    with pytest.raises(UsageError, match="Unknown objective"):
        configure(task=quick["task"], objectives=["speed", "accuracy"])
    with pytest.raises(UsageError, match="at least one trial"):
        start(configure(task=quick["task"], trials=0))


def test_energy_is_an_objective_where_the_board_says_what_it_draws(
    quick: Arguments, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A recorded tree of a Jetson's sensors stands in for them: 6 W, whatever runs."""
    names = ["accuracy", "latency_ms", "energy_mj"]
    monkeypatch.setattr("autoprune.devices.energy.ROOT", str(tmp_path))
    with pytest.raises(TargetError, match="does not say what it draws"):
        autoprune.search(**quick, strategy="random", trials=2, objectives=names, out=tmp_path / "none")
    assert not (tmp_path / "none").exists()
    monkeypatch.setattr("autoprune.devices.energy.IDLE_SECONDS", 0.05)
    monkeypatch.setattr("autoprune.devices.energy.PART_SECONDS", 0.02)
    (folder := tmp_path / "sys/class/hwmon/hwmon0").mkdir(parents=True)
    for name, content in {"name": "ina3221", "in1_label": "VDD_IN", "in1_input": 5000, "curr1_input": 1200}.items():
        (folder / name).write_text(f"{content}\n")
    run = autoprune.search(**quick, strategy="random", trials=3, objectives=names, out=tmp_path / "run")
    for entry in [run.document["baseline"], *run.front]:
        assert entry["energy_mj"] > 6 * entry["latency_ms"] / 2
    energies = [record.score.energy for record in read_story(run.directory).records if record.score]
    assert [one.power_w for one in energies if one] == pytest.approx([6.0] * 3, rel=0.05)
