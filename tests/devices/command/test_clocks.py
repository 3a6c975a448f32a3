"""Clocks that the profile's commands hold, and give back however the measuring ends."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from autoprune.commands import Commands
from tests.devices.command.conftest import Board, Opens

WRITE = "import sys; open(sys.argv[1], 'w').write(sys.argv[2])"
HOST = """\
import os, signal, sys
from autoprune.devices._guard import afterwards
with afterwards([[sys.executable, "-c", sys.argv[1], sys.argv[2], "free"]]):
    open(sys.argv[2], "w").write("held")
    print("held", flush=True)
    sys.stdin.read()
"""


@pytest.fixture
def clocks(board: Board) -> Path:
    (board.folder / "clocks").write_text("free")
    return board.folder / "clocks"


@pytest.fixture
def lines(clocks: Path) -> dict[str, list[str]]:
    write = [sys.executable, "-c", WRITE, str(clocks)]
    return {"hold_clocks": [*write, "held"], "release_clocks": [*write, "free"]}


def test_they_are_held_and_given_back(opens: Opens, clocks: Path, lines: dict[str, list[str]]) -> None:
    said: list[str] = []
    device = opens(**lines)
    assert "clocks" not in device.conditions()
    with device.steady_clocks(said.append):
        assert clocks.read_text() == "held"
        assert device.conditions()["clocks"] == "held by the profile's commands"
    assert clocks.read_text() == "free"
    assert "clocks" not in device.conditions()
    assert said == ["The clocks of device 'board' are held by the profile's commands."]


def test_a_failure_meanwhile_gives_them_back(opens: Opens, clocks: Path, lines: dict[str, list[str]]) -> None:
    with pytest.raises(KeyError), opens(**lines).steady_clocks(lambda text: None):
        raise KeyError
    assert clocks.read_text() == "free"


def test_a_refusal_is_said_and_no_failure(opens: Opens, clocks: Path, lines: dict[str, list[str]]) -> None:
    said: list[str] = []
    refused = [sys.executable, "-c", "import sys; sys.exit('no rights')"]
    device = opens(**{**lines, "hold_clocks": refused})
    with device.steady_clocks(said.append):
        assert "clocks" not in device.conditions()
    assert "left as they are" in said[0]
    assert "no rights" in said[0]


def test_what_cannot_be_given_back_is_said(opens: Opens, lines: dict[str, list[str]]) -> None:
    said: list[str] = []
    broken = [sys.executable, "-c", "import sys; sys.exit('gone')"]
    with opens(**{**lines, "release_clocks": broken}).steady_clocks(said.append):
        pass
    assert said[1].startswith("The clocks of device 'board' are still held; give them back yourself: ")
    assert sys.executable in said[1]
    assert said[1].endswith("ended with status 1. gone")


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_a_kill_gives_them_back(clocks: Path, number: int) -> None:
    process = subprocess.Popen(
        [sys.executable, "-c", HOST, WRITE, str(clocks)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    assert process.stdout
    assert process.stdout.readline().strip() == "held"
    os.killpg(process.pid, number)  # whoever is in its session
    until = time.monotonic() + 30
    while clocks.read_text() != "free" and time.monotonic() < until:
        time.sleep(0.05)
    assert clocks.read_text() == "free"
    process.communicate()


def test_what_is_held_must_be_given_back(commands: dict[str, object]) -> None:
    with pytest.raises(ValueError, match="one needs the other"):
        Commands.model_validate({**commands, "hold_clocks": ["x"]})


def test_without_such_commands_it_is_said(opens: Opens) -> None:
    said: list[str] = []
    with opens().steady_clocks(said.append):
        pass
    assert "cannot hold them" in said[0]
