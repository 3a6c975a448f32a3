"""A folder that plays a device behind command lines, and a program that plays its tool."""

import hashlib
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from autoprune.commands import Commands
from autoprune.devices import open_device
from autoprune.devices.ways.command import CommandDevice
from autoprune.hardware import Capabilities, HardwareProfile, TimingPolicy
from autoprune.records import Artifact

TOOL = """\
import json, os, sys, time
import numpy as np, onnxruntime
board, do, *rest = sys.argv[1:]
broken = os.path.join(board, "broken.py")
if os.path.exists(broken):
    exec(open(broken).read())
if do == "push":
    open(os.path.join(board, rest[1]), "wb").write(open(rest[0], "rb").read())
    print("sent", file=open(os.path.join(board, "log"), "a"))
elif do == "remove":
    os.remove(os.path.join(board, rest[0]))
elif do == "fact":
    print(open(os.path.join(board, rest[0])).read())
else:
    session = onnxruntime.InferenceSession(os.path.join(board, rest[0]))
    names = [node.name for node in session.get_inputs()]
    feeds = {name: np.load(f"{rest[1]}/{number}.npy") for number, name in enumerate(names)}
    if do == "predict":
        for number, output in enumerate(session.run(None, feeds)):
            output.tofile(f"{rest[2]}/{number}.bin")
    else:
        times = []
        for _ in range(int(rest[2])):
            began = time.perf_counter()
            session.run(None, feeds)
            times.append(1e6 * (time.perf_counter() - began))
        print("warmed up in 12.5 us")
        print(json.dumps({"mean_us": sum(times) / len(times), "runs": [{"us": each} for each in times]}))
"""
QUICK = TimingPolicy(warmup_ms=1, blocks=6, block_ms=1, settle_percent=1000, max_seconds=60)


class Board:
    """A folder that plays a device, and a program that plays its tool."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        (folder / "soc").write_text("Example 9000\n")
        (folder / "tool.py").write_text(TOOL)

    def line(self, *words: str) -> list[str]:
        return [sys.executable, str(self.folder / "tool.py"), str(self.folder), *words]

    def breaks(self, code: str) -> None:
        """From now on the tool begins with ``code``; ``do`` is what it is to do."""
        (self.folder / "broken.py").write_text(code)

    def mends(self) -> None:
        (self.folder / "broken.py").unlink()

    @property
    def models(self) -> list[str]:
        return sorted(path.name for path in self.folder.glob("*.onnx"))

    @property
    def pushes(self) -> int:
        log = self.folder / "log"
        return len(log.read_text().split()) if log.exists() else 0


@pytest.fixture
def board(tmp_path: Path) -> Board:
    (folder := tmp_path / "board").mkdir()
    return Board(folder)


@pytest.fixture
def commands(board: Board) -> dict[str, Any]:
    return {
        "push": board.line("push", "{artifact}", "{name}"),
        "run": board.line("run", "{name}", "{inputs}", "{runs}"),
        "predict": board.line("predict", "{name}", "{inputs}", "{outputs}"),
        "remove": board.line("remove", "{name}"),
        "facts": {"soc": board.line("fact", "soc")},
        "conditions": {"temperature_c": board.line("fact", "temperature")},
        "parse": {"json_path": "runs[*].us", "unit": "us", "gives": "each"},
    }


Opens = Callable[..., CommandDevice]


@pytest.fixture
def opens(commands: dict[str, Any]) -> Opens:
    """``opens(timeout_s=1)``: the device, with its commands changed."""

    def device(**changed: Any) -> CommandDevice:
        profile = HardwareProfile(
            name="board",
            description="",
            runtime="bench",
            connection="command",
            command=Commands.model_validate({**commands, **changed}),
            timing=QUICK,
            capabilities=Capabilities(channel_multiple=8),
        )
        found = open_device(profile)
        assert isinstance(found, CommandDevice)
        return found

    return device


@pytest.fixture
def device(opens: Opens) -> CommandDevice:
    return opens()


def other(artifact: Artifact, path: Path, number: int) -> Artifact:
    """A model that computes the same and has another hash."""
    path.write_bytes(artifact.path.read_bytes() + b"\x72" + bytes([2, 48, 48 + number]))  # a field of ModelProto: doc
    return artifact.model_copy(update={"path": path, "sha256": hashlib.sha256(path.read_bytes()).hexdigest()})


@pytest.fixture(autouse=True)
def no_grace(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("autoprune.devices._caller.GRACE_SECONDS", 1.0)
