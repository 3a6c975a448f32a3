"""Signals, full disks and closed pipes, on real processes: the exit code says it, and nothing is lost."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from autoprune.study import RunDirectory
from tests.cli.conftest import Command
from tests.cli.test_usage import assert_said

AUTOPRUNE = [sys.executable, "-m", "autoprune"]


def kept(root: Path) -> dict[str, int]:
    """When each result was written."""
    return {path.name: path.stat().st_mtime_ns for path in root.glob("trials/*.json")}


def listen() -> None:
    """What runs tests in parallel ignores Ctrl-C, and its children would inherit that."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM], ids=["Ctrl-C", "SIGTERM"])
def test_a_stopped_search_says_how_to_go_on(
    command: Command, quick: dict[str, str], tmp_path: Path, number: signal.Signals
) -> None:
    out = tmp_path / "run"
    arguments = ["--task", quick["task"], "--target", quick["target"], "--space", quick["space"], "--out", str(out)]
    driver = subprocess.Popen(
        [*AUTOPRUNE, "search", *arguments, "--trials", "1000"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        preexec_fn=listen,
    )
    deadline = time.monotonic() + 120
    while not kept(out) and driver.poll() is None and time.monotonic() < deadline:
        time.sleep(0.02)
    driver.send_signal(number)
    printed, said = driver.communicate(timeout=60)
    before = kept(out)
    assert driver.returncode == 130, said
    assert "Traceback" not in said
    assert not printed
    assert_said(said, rf"Stopped; {len(before)} results are safe\. Go on with: autoprune resume {out}")
    document = (out / "run.json").read_text()
    (out / "run.json").write_text(document.replace('"trials": 1000', f'"trials": {len(before) + 1}'))
    assert command("resume", out).code == 0
    after = kept(out)
    assert before.items() <= after.items()
    assert len(after) == len(before) + 1


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 900 kB."""
    folder = tmp_path / "disk"
    folder.mkdir()
    made = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=900k", "tmpfs", str(folder)], capture_output=True, text=True
    )
    if made.returncode:
        pytest.skip(f"a small file system cannot be mounted: {made.stderr.strip()}")
    yield folder
    subprocess.run(["umount", "--lazy", str(folder)], check=True)


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="mounts a tmpfs")
def test_a_full_disk_loses_nothing(command: Command, quick: dict[str, str], small_disk: Path) -> None:
    out = small_disk / "run"
    documents = ("--task", quick["task"], "--target", quick["target"], "--space", quick["space"])
    done = command("search", *documents, "--strategy", "random", "--trials", 12, "--out", out)  # which screens none
    assert done.code == 5
    assert_said(done.said, f"The disk that holds {out} is full; .*Make room, then go on with: autoprune resume {out}")
    records = RunDirectory.open(out).records()
    assert records, "the disk is too small for this test"
    assert all(record.score for record in records.values()), "a candidate was blamed for the disk"
    before = kept(out)
    subprocess.run(["mount", "-o", "remount,size=64m", str(small_disk)], check=True)
    done = command("resume", out)
    assert done.code == 0, done.err
    assert before.items() <= kept(out).items()
    assert len(kept(out)) == 12


@pytest.mark.slow
def test_a_closed_pipe_is_no_error(run: Path) -> None:
    process = subprocess.Popen([*AUTOPRUNE, "show", str(run), "--json"], stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    assert process.stdout is not None
    assert process.stderr is not None
    process.stdout.close()
    said = process.stderr.read().decode()
    process.stderr.close()
    assert (process.wait(), said) == (0, "")


@pytest.mark.slow
def test_a_name_that_is_not_utf8() -> None:
    done = subprocess.run([*map(os.fsencode, AUTOPRUNE), b"search", b"--task", b"n\xff"], capture_output=True)
    assert done.returncode == 2
    assert_said(done.stderr.decode(), "Unknown task 'n.*': choose one of")
    assert b"Traceback" not in done.stderr
