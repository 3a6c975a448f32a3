"""Exit codes 5 and 6: run directories that cannot be used, and searches that end without a usable model."""

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from autoprune.recipe import DENSE
from autoprune.records import Failure
from autoprune.study import RunDirectory
from tests.cli.conftest import Command, Outcome
from tests.cli.test_usage import assert_said

Arguments = dict[str, str]


def search(command: Command, quick: Arguments, **options: object) -> Outcome:
    given = {**quick, "trials": 3, **options}
    return command("search", *(text for key, value in given.items() for text in (f"--{key.replace('_', '-')}", value)))


@pytest.mark.parametrize("name", ["show", "report", "resume", "export"])
def test_a_folder_that_is_no_run(command: Command, tmp_path: Path, name: str) -> None:
    more = ["--to", tmp_path / "to"] if name == "export" else []
    for folder in (tmp_path, tmp_path / "absent", Path("x" * 5000)):
        done = command(name, folder, *more)
        assert done.code == 5
        assert_said(done.said, "is not a run directory: it has no run.json")
        assert not done.out


def test_an_out_that_is_a_file_or_below_one(command: Command, quick: Arguments, tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.write_text("mine")
    done = search(command, quick, out=file)
    assert (done.code, file.read_text()) == (5, "mine")
    assert_said(done.said, "file is not an empty folder: give another --out")
    done = search(command, quick, out=file / "below")
    assert done.code == 5
    assert_said(done.said, "below cannot be written: Not a directory")
    done = search(command, quick, out=tmp_path / ("x" * 300))
    assert done.code == 5
    assert_said(done.said, "cannot be written: File name too long")


def test_an_out_with_things_in_it(command: Command, quick: Arguments, tmp_path: Path, run: Path) -> None:
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "thesis.txt").write_text("years")
    done = search(command, quick, out=tmp_path / "full")
    assert done.code == 5
    assert_said(done.said, "full is not an empty folder: give another --out")
    assert (tmp_path / "full" / "thesis.txt").read_text() == "years"
    done = search(command, quick, out=run)
    assert done.code == 5
    assert_said(done.said, f"already holds a run: continue it with 'autoprune resume {run}'")


def garbage(path: Path) -> None:
    path.write_bytes(b"\x00\xff not what it was")


def half(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def deep(path: Path) -> None:
    path.write_text("[" * 100_000)


def of_another_kind(path: Path) -> None:
    path.write_text('{"recipe": 1}')


@pytest.mark.parametrize("spoil", [garbage, half, deep, of_another_kind])
@pytest.mark.parametrize("name", ["run.json", "finals.json", "trials"])
def test_a_corrupted_file_is_named(command: Command, run: Path, name: str, spoil: Callable[[Path], None]) -> None:
    path = sorted((run / "trials").iterdir())[2] if name == "trials" else run / name
    spoil(path)
    done = command("show", run)
    assert done.code == 5
    assert len(done.err.splitlines()) == 1
    assert_said(done.said, f"{path.name} is (missing or )?corrupted")


def test_a_trial_under_another_name_is_named(command: Command, run: Path) -> None:
    first, second, *_ = sorted((run / "trials").iterdir())
    shutil.copy(first, second)
    done = command("show", run)
    assert done.code == 5
    assert_said(done.said, f"{second.name} is corrupted: it holds recipe {first.stem}. Restore it from a copy")


@pytest.mark.parametrize("spoil", [garbage, half])
def test_a_corrupted_study_is_named_and_nothing_is_lost(
    command: Command, run: Path, spoil: Callable[[Path], None]
) -> None:
    before = {path: path.read_bytes() for path in (run / "trials").iterdir()}
    spoil(run / "study.db")
    done = command("resume", run, "--trials", 8)
    assert done.code == 5
    assert_said(done.said, r"study\.db is corrupted or cannot be written")
    assert {path: path.read_bytes() for path in (run / "trials").iterdir()} == before


def test_a_missing_trial_is_named(command: Command, run: Path) -> None:
    path = sorted((run / "trials").iterdir())[0]
    path.unlink()
    done = command("resume", run)
    assert done.code == 5
    assert_said(done.said, f"{path.name} is missing, though the study has its result")


def test_a_second_driver_is_told_of_the_first(command: Command, run: Path) -> None:
    with RunDirectory.open(run).locked():
        done = command("resume", run)
    assert done.code == 5
    assert_said(done.said, rf"is in use by the process with pid {os.getpid()} on host \S+: wait for it or stop it")


def test_a_run_whose_task_file_is_gone(command: Command, run: Path, tmp_path: Path) -> None:
    document = json.loads((run / "run.json").read_text())
    document["config"]["task"] = str(tmp_path / "gone.py")
    (run / "run.json").write_text(json.dumps(document))
    done = command("resume", run)
    assert done.code == 3
    assert_said(done.said, r"Task file .*gone\.py does not exist")
    assert command("show", run).code == 0, "a report needs no task"


def test_trials_cannot_be_taken_back(command: Command, run: Path) -> None:
    done = command("resume", run, "--trials", 2)
    assert done.code == 2
    assert_said(done.said, "has 6 trials already; --trials 2 cannot take any back")


def test_missed_goals_are_exit_6_with_the_nearest_shown(command: Command, quick: Arguments, tmp_path: Path) -> None:
    done = search(command, quick, out=tmp_path / "out", min_speedup=1000, trials=2)
    assert done.code == 6
    assert_said(done.out, "(?i)(goal|nearest|closest)")


def test_a_collapse_is_exit_6_and_keeps_everything(
    command: Command, own_task: Callable[..., Path], quick: Arguments, tmp_path: Path
) -> None:
    before = """\
def metric(outputs, targets, seen=[]):
    seen.append(outputs)
    n = min(len(outputs), len(seen[0]))
    return 0.9 if (outputs[:n] - seen[0][:n]).abs().max() < 1e-3 else 0.1"""
    path = own_task("metric=metric, test=None", before=before)
    done = search(command, quick, task=path, out=tmp_path / "out")
    assert done.code == 6
    assert_said(done.said, r"lost more than half of the dense model's accuracy.*raise keep\.min in the space")
    assert len(list((tmp_path / "out" / "trials").iterdir())) >= 3


def spoil_recipe(run: Path) -> str:
    """Make a cut recipe that was tried a failed one; its id."""
    directory = RunDirectory.open(run)
    record = next(r for r in directory.records().values() if not (directory.front / r.recipe.id).exists())
    failure = Failure(stage="parity", kind="parity", message="Outputs differ.")
    directory.save(record.model_copy(update={"outcome": failure}))
    return record.recipe.id


def test_recipes_that_cannot_be_exported(command: Command, run: Path, tmp_path: Path) -> None:
    to = tmp_path / "to"
    for recipe, code, message in (
        ("zz", 2, f"No recipe of {run} begins with 'zz'; 'autoprune show {run}' lists them"),
        ("", 2, "More than one recipe .* begins with ''"),
        (spoil_recipe(run), 2, "failed in the search, so there is no model of it"),
    ):
        done = command("export", run, recipe, "--to", to)
        assert done.code == code
        assert_said(done.said, message)
        assert not to.exists()


def test_an_export_goes_to_a_new_folder_or_nowhere(command: Command, run: Path, tmp_path: Path) -> None:
    done = command("export", run, "--to", run)
    assert done.code == 2
    assert_said(done.said, "exists already: give another --to")
    done = command("export", run, "--to", run / "run.json" / "below")
    assert done.code == 5
    assert_said(done.said, "below cannot be written")
    (run / "front" / DENSE.id / "model.onnx").write_bytes(b"other")
    done = command("export", run, DENSE.id, "--to", tmp_path / "to")
    assert done.code == 5
    assert_said(done.said, r"model\.onnx is not the file that was written")
    assert not (tmp_path / "to").exists()


def test_an_export_from_a_broken_or_unfinished_run(command: Command, run: Path, tmp_path: Path) -> None:
    (run / "pareto.json").write_text("[]")
    done = command("export", run, "--to", tmp_path / "to")
    assert done.code == 5
    assert_said(done.said, rf"pareto\.json is corrupted: write it anew with 'autoprune report {run}'")
    (run / "pareto.json").unlink()
    done = command("export", run, "--to", tmp_path / "to")
    assert done.code == 5
    assert_said(done.said, "is not finished, so no model is chosen yet: name a recipe")
    assert command("report", run).code == 0
    assert command("export", run, "--to", tmp_path / "to").code == 0
