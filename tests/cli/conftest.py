"""The command line, called in this process; and one finished run that several tests copy and break."""

import logging
import shutil
import signal
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

import autoprune
from autoprune.cli import main
from tests.engine.conftest import quick  # noqa: F401

TASK = """\
import dataclasses
import torch
from torch import nn
from tests.engine import small

{before}

def task():
    return dataclasses.replace(small.task(), {changes})
"""


@dataclass(frozen=True)
class Outcome:
    """What a command did; ``said`` is the last line of standard error."""

    code: int
    out: str
    err: str

    @property
    def said(self) -> str:
        return self.err.strip().splitlines()[-1]


Command = Callable[..., Outcome]


@pytest.fixture
def command(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Iterator[Command]:
    """``command("show", run)``: what ``autoprune show RUN`` does; never with a traceback."""

    def call(*arguments: object) -> Outcome:
        capsys.readouterr()
        monkeypatch.setattr(sys, "argv", ["autoprune", *map(str, arguments)])
        with pytest.raises(SystemExit) as stopped:
            main()
        said = capsys.readouterr()
        assert "Traceback" not in said.err + said.out
        return Outcome(int(stopped.value.code or 0), said.out, said.err)

    handler = signal.getsignal(signal.SIGTERM)
    yield call
    signal.signal(signal.SIGTERM, handler)
    logging.captureWarnings(False)


@pytest.fixture
def own_task(tmp_path: Path) -> Callable[..., Path]:
    """``own_task("name='x'", before="...")``: a task file like ``tests/engine/small.py`` with these changes."""

    def write(changes: str = "", *, before: str = "", name: str = "own") -> Path:
        path = tmp_path / f"{name}.py"
        path.write_text(TASK.format(before=before, changes=changes))
        return path

    return write


@pytest.fixture(scope="session")
def shared_run(quick: dict[str, str], tmp_path_factory: pytest.TempPathFactory) -> Path:  # noqa: F811
    """A finished run of a task file beside it; read only."""
    folder = tmp_path_factory.mktemp("cli")
    own = Path(shutil.copy(quick["task"], folder / "own.py"))
    return autoprune.search(
        **{**quick, "task": str(own)}, strategy="tpe", trials=6, seed=1, out=folder / "run"
    ).directory


@pytest.fixture
def run(shared_run: Path, tmp_path: Path) -> Path:
    """A copy of it that may be broken."""
    return Path(shutil.copytree(shared_run, tmp_path / "run"))
