"""Exit code 0: what the commands print when all is well; with --json, standard output holds JSON and nothing else."""

import json
from pathlib import Path
from typing import Any

import pytest

from autoprune.cli._progress import Progress
from tests.cli.conftest import Command
from tests.cli.test_usage import assert_said


def as_json(command: Command, *arguments: object) -> Any:
    done = command(*arguments, "--json")
    assert done.code == 0
    return json.loads(done.out)


@pytest.mark.parametrize(
    ("name", "key", "known"),
    [
        ("tasks", "task", {"digits", "cifar10"}),
        ("spaces", "space", {"default", "fine-tune"}),
        ("targets", "target", {"cpu"}),
    ],
)
def test_lists(command: Command, name: str, key: str, known: set[str]) -> None:
    rows = as_json(command, name)
    assert known <= {row[key] for row in rows}
    text = command(name)
    assert (text.code, text.err) == (0, "")
    assert all(row[key] in text.out for row in rows)


def test_doctor(command: Command) -> None:
    found = as_json(command, "doctor")
    assert {"onnxruntime"} <= {row["name"] for row in found["runtimes"] if row["works"]}
    assert found["machine"]["cores"] >= 1
    text = command("doctor")
    assert text.code == 0
    assert_said(text.out, r"onnxruntime +yes")


def test_explain(command: Command, quick: dict[str, str]) -> None:
    found = as_json(command, "explain", "--task", quick["task"])
    assert {group["group"]: group["units"] for group in found["groups"]} == {"conv1": 32, "conv2": 32}
    assert found["blocked"] == []
    text = command("explain", "--task", quick["task"])
    assert text.code == 0
    assert_said(text.out, "conv1 +channel +32")
    assert_said(text.out, "No operator stands in the way")


def test_dry_run_writes_nothing(command: Command, quick: dict[str, str], tmp_path: Path) -> None:
    given = [text for key, value in quick.items() for text in (f"--{key}", value)]
    out = ("--out", tmp_path / "out", "--dry-run")
    found = as_json(command, "search", *given, *out)
    assert [group["id"] for group in found["groups"]] == ["conv1", "conv2"]
    assert found["channel_multiple"] == 8
    text = command("search", *given, *out)
    assert text.code == 0
    assert_said(text.out, r"conv1 +channel +32 +8, 16, 24, 32")
    assert not (tmp_path / "out").exists()


def test_show_and_report(command: Command, run: Path) -> None:
    document = as_json(command, "show", run)
    assert document["finished"]
    assert document["trials"]["total"] == 6
    text = command("show", run)
    assert (text.code, text.err) == (0, "")
    assert document["chosen"][:8] in text.out
    for name in ("report.html", "pareto.json"):
        (run / name).unlink()
    done = command("report", run)
    assert done.code == 0
    assert_said(done.out, r"Wrote .*report\.html and .*pareto\.json")
    assert json.loads((run / "pareto.json").read_text())["chosen"] == document["chosen"]
    assert (run / "report.html").stat().st_size > 1000


def test_a_run_that_is_not_finished_is_shown(command: Command, run: Path) -> None:
    (run / "finals.json").unlink()
    assert not as_json(command, "show", run)["finished"]


def test_export_makes_any_recipe_again(command: Command, run: Path, tmp_path: Path) -> None:
    others = [path.stem for path in (run / "trials").iterdir() if not (run / "front" / path.stem).exists()]
    done = command("export", run, others[0][:10], "--to", tmp_path / "[/odd] name")
    assert done.code == 0, done.err
    assert others[0] in done.out
    assert {path.name for path in (tmp_path / "[/odd] name").iterdir()} >= {"model.onnx", "manifest.json", "use.py"}
    assert not list((run / "work").glob("export-*"))


def test_a_search_prints_json_alone(command: Command, quick: dict[str, str], tmp_path: Path) -> None:
    given = [text for key, value in quick.items() for text in (f"--{key}", value)]
    document = as_json(command, "search", *given, "--trials", 2, "--out", tmp_path / "out")
    assert document == json.loads((tmp_path / "out" / "pareto.json").read_text())


def test_a_long_name_of_a_task_makes_a_folder(
    command: Command, own_task: Any, quick: dict[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    path = own_task("name='\u540d/..[/x]' * 200")
    done = command("search", "--task", path, "--target", quick["target"], "--space", quick["space"], "--trials", 1)
    assert done.code == 0, done.err
    [folder] = (tmp_path / "runs").iterdir()
    assert len(folder.name.encode()) <= 255


def test_a_countdown_does_not_fill_a_log(capsys: pytest.CaptureFixture[str]) -> None:
    with Progress() as progress:
        for left in (3, 2, 1):
            progress.stage(f"measuring damage, {left} cuts left")
        progress.stage("timing recipes")
        progress.stage("measuring damage, 9 cuts left")
    said = capsys.readouterr().err.splitlines()
    assert said == ["measuring damage, 3 cuts left ...", "timing recipes ...", "measuring damage, 9 cuts left ..."]
