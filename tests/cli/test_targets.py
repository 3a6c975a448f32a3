"""autoprune targets: list, show, new, check."""

import json
from pathlib import Path

import pytest
import yaml

from autoprune.hardware import load_profile
from tests.cli.conftest import Command


def test_show_tells_what_is_inherited(command: Command, tmp_path: Path) -> None:
    board = tmp_path / "board.yaml"
    board.write_text("name: board\ndescription: mine\nextends: cpu\noptions: {threads: 4}\n")
    shown = command("targets", "show", board)
    assert shown.code == 0
    found = yaml.safe_load(shown.out)
    assert found["options"] == {"threads": 4, "batch": 1}
    assert found["timing"]["blocks"] == 11
    assert found == json.loads(command("targets", "show", board, "--json").out)


def test_a_new_profile_is_one_and_is_not_overwritten(
    command: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert command("targets", "new", "my-board").code == 0
    path = tmp_path / "my-board.yaml"
    assert load_profile(str(path)).name == "my-board"
    path.write_text(path.read_text() + "# mine\n")
    again = command("targets", "new", "my-board")
    assert again.code == 2
    assert "is there already" in again.said
    assert path.read_text().endswith("# mine\n")


@pytest.mark.parametrize("name", ["../board", "a b", "", "/tmp/board", "--x"])
def test_a_name_is_a_name(command: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    monkeypatch.chdir(tmp_path)
    assert command("targets", "new", "--", name).code == 2
    assert not list(tmp_path.iterdir())


def test_check_says_what_the_device_is_and_times_it(command: Command, quick: dict[str, str]) -> None:
    done = command("targets", "check", quick["target"], "--json")
    assert done.code == 0, done.err
    found = json.loads(done.out)
    assert found["runtime"] == "onnxruntime"
    assert found["median_ms"] > 0
    assert found["largest_error"] < 1e-4
    assert "median_ms" in command("targets", "check", quick["target"]).out


def test_check_probes_what_pays(command: Command, quick: dict[str, str]) -> None:
    found = json.loads(command("targets", "check", quick["target"], "--probe", "--json").out)
    assert found["channel_multiple"] in (1, 2, 4, 8, 16, 32)
    assert found["int8_speedup"] > 0
    assert found["precisions_that_pay"].startswith("fp32")
    assert found["2:4_speedup"] > 0


def test_a_board_is_not_this_machine(command: Command) -> None:
    done = command("targets", "check", "raspberry-pi-5")
    assert done.code == 0
    assert "valid" in done.out
    assert "cannot be probed" in done.out
    assert "--connect" in done.out
    planned = json.loads(command("targets", "check", "jetson", "--json").out)
    assert planned["measured"] is False
    assert planned["plan"].startswith("latencies are estimated")


def test_check_says_what_is_wrong(command: Command, tmp_path: Path) -> None:
    away = command("targets", "check", "cpu", "--connect", "ssh://127.0.0.1:1")
    assert away.code == 7
    assert "refused" in away.said
    odd = command("targets", "check", "cpu", "--connect", "http://board")
    assert odd.code == 2
    assert "no address" in odd.said


def test_check_refuses_a_bad_profile_of_an_absent_device(command: Command, tmp_path: Path) -> None:
    path = tmp_path / "board.yaml"
    path.write_text("name: board\ndescription: x\nruntime: tensorrt\nconnection: given\noptions: {thread: 4}\n")
    done = command("targets", "check", str(path))
    assert done.code == 2
    assert "options.thread" in done.said
