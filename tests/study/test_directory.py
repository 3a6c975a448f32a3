"""The run directory: whole files or none, one driver, and sentences when something is wrong."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from autoprune.errors import RunError, RunLockedError
from autoprune.recipe import DENSE
from autoprune.records import Failure, TrialRecord
from autoprune.study import RunDirectory

RECORD = TrialRecord(
    recipe=DENSE, outcome=Failure(stage="export", kind="x", message="y"), finished_at="2026-01-01T00:00:00+00:00"
)


def test_a_record_comes_back_as_it_was(tmp_path: Path) -> None:
    directory = RunDirectory.create(tmp_path / "run")
    directory.save(RECORD)
    assert directory.records() == {DENSE.id: RECORD}


def test_a_folder_that_is_no_run_is_refused(tmp_path: Path) -> None:
    with pytest.raises(RunError, match="not a run directory"):
        RunDirectory.open(tmp_path)


def test_a_run_is_not_overwritten(tmp_path: Path) -> None:
    (tmp_path / "run.json").write_text("{}")
    with pytest.raises(RunError, match="autoprune resume"):
        RunDirectory.create(tmp_path)


def test_a_folder_with_other_things_in_it_is_refused(tmp_path: Path) -> None:
    (tmp_path / "thesis.tex").write_text("")
    with pytest.raises(RunError, match="not an empty folder"):
        RunDirectory.create(tmp_path)


@pytest.mark.parametrize("content", ["", "{", '{"recipe": 1}', "[]", "null"])
def test_a_corrupted_record_is_named(tmp_path: Path, content: str) -> None:
    directory = RunDirectory.create(tmp_path / "run")
    path = directory.trials / f"{DENSE.id}.json"
    path.write_text(content)
    with pytest.raises(RunError, match=path.name):
        directory.records()


def test_a_record_under_another_recipes_name_is_named(tmp_path: Path) -> None:
    directory = RunDirectory.create(tmp_path / "run")
    directory.save(RECORD)
    (directory.trials / f"{DENSE.id}.json").rename(directory.trials / "0123456789abcdef.json")
    with pytest.raises(RunError, match="0123456789abcdef"):
        directory.records()


def test_a_folder_that_cannot_be_made_is_said(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(RunError, match="cannot be written"):
        RunDirectory.create(tmp_path / "file" / "run")


def test_a_failed_write_leaves_what_was_there(tmp_path: Path) -> None:
    directory = RunDirectory.create(tmp_path / "run")
    directory.write(directory.run, {"a": 1})
    with pytest.raises(ValueError, match="JSON"):
        directory.write(directory.run, {"a": float("nan")})
    assert directory.read(directory.run) == {"a": 1}
    assert not list(directory.root.glob(".*.tmp"))


HOLDER = """
import sys, time
from pathlib import Path
from autoprune.study import RunDirectory
with RunDirectory(Path(sys.argv[1])).locked():
    print("locked", flush=True)
    time.sleep(60)
"""


def test_a_second_driver_is_refused_until_the_first_is_gone(tmp_path: Path) -> None:
    directory = RunDirectory.create(tmp_path / "run")
    with subprocess.Popen([sys.executable, "-c", HOLDER, str(directory.root)], stdout=subprocess.PIPE) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == b"locked\n"
        with pytest.raises(RunLockedError, match=f"pid {holder.pid} on host"), directory.locked():
            pass
        holder.send_signal(signal.SIGKILL)
        holder.wait()
    with directory.locked():
        owner = json.loads((directory.root / "driver.json").read_text())
        assert owner["pid"] == os.getpid()
    assert not (directory.root / "driver.json").exists()


WRITER = """
import sys
from pathlib import Path
from autoprune.study import RunDirectory
directory = RunDirectory(Path(sys.argv[1]))
print("writing", flush=True)
while True:
    for letter in "ab":
        directory.write(directory.run, {"text": letter * 200_000})
"""


def test_a_kill_while_writing_leaves_a_whole_file(tmp_path: Path) -> None:
    directory = RunDirectory.create(tmp_path / "run")
    for pause in (0.03, 0.05, 0.07):
        with subprocess.Popen([sys.executable, "-c", WRITER, str(directory.root)], stdout=subprocess.PIPE) as writer:
            assert writer.stdout is not None
            writer.stdout.readline()
            time.sleep(pause)
            writer.kill()
        assert len(set(directory.read(directory.run)["text"])) == 1


@pytest.mark.skipif(os.geteuid() != 0, reason="mounting a small file system needs root")
def test_a_full_disk_is_said_and_loses_nothing(tmp_path: Path) -> None:
    small = tmp_path / "small"
    small.mkdir()
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=256k", "tmpfs", str(small)], capture_output=True).returncode:
        pytest.skip("mounting is not permitted here")
    try:
        directory = RunDirectory.create(small / "run")
        directory.save(RECORD)
        with pytest.raises(RunError, match="No space left on device"):
            directory.write(directory.run, {"text": "x" * 400_000})
        assert directory.records() == {DENSE.id: RECORD}
    finally:
        subprocess.run(["umount", str(small)], check=True)


def test_a_start_that_was_killed_early_leaves_its_folder_free(tmp_path: Path) -> None:
    root = tmp_path / "run"
    (root / "trials").mkdir(parents=True)
    for name in (".lock", "driver.json", ".run.json.123.tmp"):
        (root / name).touch()
    RunDirectory.create(root)
    (root / "trials" / "a.json").touch()
    with pytest.raises(RunError, match="not an empty folder"):
        RunDirectory.create(root)
