"""A target that is timed quickly: here, and reached by ssh."""

import os
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.devices import sshd

QUICK = """\
name: quick
description: this machine, timed in a hurry
runtime: onnxruntime
timing: {warmup_ms: 2, blocks: 6, block_ms: 2, settle_percent: 500, max_seconds: 30, retries: 0}
capabilities: {channel_multiple: 8, precisions: [fp32, int8]}
"""
SPACE = """\
name: quick
description: seconds in all
keep: {min: 0.25, levels: 4}
criterion: [l2]
recover: [{methods: [lstsq, bn]}, {methods: [distil], epochs: 0.5}]
"""
SMALL = Path(__file__).with_name("small.py")


@pytest.fixture(scope="session")
def quick(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """Arguments of a search that takes seconds."""
    folder = tmp_path_factory.mktemp("documents")
    (folder / "quick.yaml").write_text(QUICK)
    (folder / "space.yaml").write_text(SPACE)
    return {"task": str(SMALL), "target": str(folder / "quick.yaml"), "space": str(folder / "space.yaml")}


@pytest.fixture
def server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The folder of an sshd that ssh knows as ``device``."""
    (folder := tmp_path / "sshd").mkdir()
    with sshd.running(folder) as client:
        monkeypatch.setenv("PATH", f"{client}{os.pathsep}{os.environ['PATH']}")
        yield folder


@pytest.fixture
def board(tmp_path: Path, server: Path) -> str:
    """A profile of what is behind it: Python as here, artifacts in a folder of the test."""
    python = tmp_path / "python"
    python.write_text(f'#!/bin/sh\nXDG_CACHE_HOME={tmp_path}/device exec {sys.executable} "$@"\n')
    python.chmod(0o755)
    path = tmp_path / "board.yaml"
    path.write_text(QUICK + f"python: {python}\n")
    return str(path)
