"""What the pages say works: commands run, links lead somewhere, examples fit their schemas, options are all there."""

import os
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import typer.main

from autoprune.cli.main import app
from autoprune.documents import parse_yaml
from autoprune.hardware import load_profile
from autoprune.space import SearchSpace
from tests.cli.conftest import Command
from tests.devices import sshd
from tests.engine.test_plan import SHEET

ROOT = Path(__file__).resolve().parents[2]
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("*.md"))]
SCHEMAS = {"search-space": SearchSpace}
PLANNED = "jetson"  # nothing is timed for it
HURRY = "timing: {warmup_ms: 2, blocks: 6, block_ms: 2, settle_percent: 500, max_seconds: 60}"
SMALL = ROOT / "tests" / "engine" / "small.py"


def blocks(page: Path, language: str) -> list[str]:
    """The fenced blocks of a page in one language."""
    return re.findall(rf"^```{language}\n(.*?)^```", page.read_text(encoding="utf-8"), flags=re.S | re.M)


def commands(page: Path) -> list[str]:
    """Every command line in the shell blocks of a page, without comments."""
    lines = [line.split("  #")[0].strip() for block in blocks(page, "sh") for line in block.splitlines()]
    return [line for line in lines if line]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_lead_somewhere(page: Path) -> None:
    for target in re.findall(r"\]\(([^)#]+)(?:#[^)]*)?\)", page.read_text(encoding="utf-8")):
        if not target.startswith("https://"):
            assert (page.parent / target).exists(), f"{page.name} links to {target}"


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_yaml_examples_fit_their_schema(page: Path, tmp_path: Path) -> None:
    for block in blocks(page, "yaml"):
        kind = block.splitlines()[0].removeprefix("# ")
        if kind == "hardware-profile":
            (tmp_path / "example.yaml").write_text(block)
            load_profile(str(tmp_path / "example.yaml"))
        else:
            parse_yaml(block, SCHEMAS[kind], origin=page.name)


def leaves(command: Any) -> list[Any]:
    """A command and those below it."""
    below = getattr(command, "commands", {}).values()
    return [command, *(leaf for one in below for leaf in leaves(one))]


def test_every_option_is_documented_and_exists() -> None:
    text = (ROOT / "docs" / "commands.md").read_text(encoding="utf-8")
    exist = {
        option
        for command in leaves(typer.main.get_command(app))
        for parameter in command.params
        for option in parameter.opts
        if option.startswith("-") and option != "--help"
    }
    named = set(re.findall(r"`(--?[a-z][a-z-]*)`", text))
    assert exist - named == set(), "options that docs/commands.md does not name"
    assert named - exist == set(), "options that do not exist"
    assert set(re.findall(r"^\| `(\w+)", text, flags=re.M)) >= {
        "search",
        "resume",
        "show",
        "report",
        "export",
        "explain",
    }


def test_scripts_are_programs() -> None:
    for line in commands(ROOT / "README.md"):
        if line.startswith("scripts/"):
            script = ROOT / shlex.split(line)[0]
            assert os.access(script, os.X_OK)
            subprocess.run(["bash", "-n", str(script)], check=True)


@pytest.mark.slow
@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_commands_run(
    page: Path,
    command: Command,
    quick: dict[str, str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """In one folder a page; searches time in a hurry, and that of one's own model is cut short."""
    shutil.copy(SMALL, tmp_path / "my.py")
    for name, content in re.findall(r"^```(?:python|yaml) file=(\S+)\n(.*?)^```", page.read_text(), flags=re.S | re.M):
        (tmp_path / name).write_text(re.sub(r"^timing: .*$", HURRY, content, flags=re.M))
    monkeypatch.setenv("PATH", f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}")
    monkeypatch.chdir(tmp_path)
    for line in commands(page):
        words = shlex.split(line)
        if words[0] == "pip" or words[0].startswith("scripts/") or "FILE" in line or "--connect" in line:
            continue  # CI installs and tests; FILE stands for what only the reader has; connections come below
        if words[0] == "python":
            subprocess.run([sys.executable, *words[1:]], check=True)
            continue
        if words[1] in {"search", "calibrate"} and PLANNED not in words:
            words += ["--target", quick["target"]]  # of an option that is given twice, the last one holds
        if words[1] == "search" and PLANNED not in words:
            words += ["--trials", "4"]
        if words[1] == "search" and "my.py" in words:
            words += ["--trials", "2", "--max-accuracy-drop", "0.9"]
        done = command(*words[1:])
        assert done.code in ((0, 6) if words[1] in {"search", "resume"} else (0,)), f"{line}\n{done.err}"


@pytest.mark.slow
@pytest.mark.skipif(not sshd.available(), reason=sshd.MISSING)
def test_commands_over_a_connection_run(
    command: Command, board: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    lines = [line for page in PAGES for line in commands(page) if "--connect" in line]
    assert lines
    for line in lines:
        words = ["board.yaml" if word == "cpu" else word for word in shlex.split(line)[1:]]
        words = words[: words.index("--connect")]  # the device of the page is that of the test
        if words[0] == "measure":
            (tmp_path / "planned.yaml").write_text(Path(board).read_text() + SHEET)
            command("search", "--task", SMALL, "--target", "planned.yaml", "--trials", "2", "--out", words[1])
        if words[0] in {"search", "measure"}:
            words += ["--target", "board.yaml"]
        if words[0] == "search":
            words += ["--trials", "2"]
        done = command(*words, "--connect", "ssh://device")
        assert done.code in (0, 6), f"{line}\n{done.err}"


@pytest.mark.slow
def test_the_readmes_python_runs(tmp_path: Path, quick: dict[str, str]) -> None:
    (block,) = blocks(ROOT / "README.md", "python")
    block = block.replace('target="cpu"', f"target={quick['target']!r}")
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        [sys.executable, "-c", block], cwd=tmp_path, env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "runs" / "mine" / "report.html").is_file()
