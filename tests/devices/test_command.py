"""A device behind command lines: the contract of all devices, and what can go wrong with a command."""

import hashlib
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest

from autoprune.commands import Commands
from autoprune.devices import Arrays, Device, measure, open_device, smoke
from autoprune.devices._caller import KEPT
from autoprune.devices.ways.command import CommandDevice
from autoprune.errors import DeviceError, StageError, TargetError
from autoprune.hardware import Capabilities, HardwareProfile, TimingPolicy
from autoprune.records import Artifact
from autoprune.testing import DeviceContract

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


class TestCommandDevice(DeviceContract):
    """A tool that prints every duration."""

    has_profiler = tells_memory = False


@pytest.mark.slow
class TestCommandDeviceOfMeans(DeviceContract):
    """A tool that prints the mean alone."""

    has_profiler = tells_memory = False

    @pytest.fixture
    def device(self, opens: Opens) -> Device:
        return opens(parse={"pattern": r'"mean_us": ([\d.]+)', "unit": "us", "gives": "mean"})

    def test_a_sample_is_not_taken_for_an_inference(self, device: Device, artifact: Artifact, inputs: Arrays) -> None:
        with device.open(artifact, inputs) as session:
            found = measure(session, QUICK, device.circumstances("fp32"))
        assert found.n == 6
        assert found.conditions["statistic"].startswith("a sample is the mean of ")


def other(artifact: Artifact, path: Path, number: int) -> Artifact:
    """A model that computes the same and has another hash."""
    path.write_bytes(artifact.path.read_bytes() + b"\x72" + bytes([2, 48, 48 + number]))  # a field of ModelProto: doc
    return artifact.model_copy(update={"path": path, "sha256": hashlib.sha256(path.read_bytes()).hexdigest()})


def test_it_computes_what_this_machine_computes(device: CommandDevice) -> None:
    timed, error = smoke(device)
    assert error is not None
    assert error < 1e-6
    assert timed.runtime == "bench"
    assert "statistic" not in timed.conditions


def test_facts_and_conditions_are_what_the_commands_print(device: CommandDevice, board: Board) -> None:
    assert device.facts()["soc"] == "Example 9000"
    assert "temperature_c" not in device.conditions(), "what cannot be read is left out"
    (board.folder / "temperature").write_text("45")
    assert device.conditions()["temperature_c"] == "45"


def test_another_command_is_another_device(opens: Opens, commands: dict[str, Any]) -> None:
    assert opens().fingerprint != opens(run=[*commands["run"], "--fast"]).fingerprint


def test_without_predict_it_is_said_that_parity_was_not_checked_there(
    opens: Opens, artifact: Artifact, inputs: Arrays
) -> None:
    device = opens(predict=[])
    with device.predictor(artifact) as predict:
        assert predict(inputs)
    timed, error = smoke(device)
    assert error is None
    assert timed.conditions["parity"] == "checked on this machine, not on the device"


def test_a_model_is_sent_once_and_the_device_is_not_filled(
    device: CommandDevice, board: Board, artifact: Artifact, inputs: Arrays, tmp_path: Path
) -> None:
    for number in (1, 2, 1, 2, 1):
        with device.open(other(artifact, tmp_path / f"{number}.onnx", number), inputs) as session:
            session.run(2)
    assert board.pushes == len(board.models) == 2
    for number in range(3, 10 + KEPT):
        with device.open(other(artifact, tmp_path / "one.onnx", number), inputs):
            pass
    assert len(board.models) == KEPT + 1, "and the one that shows whether the device works"
    device.caller.close()
    assert board.models == []


# ------------------------------------------------------------------------------------------------ faults


def running(word: str) -> list[psutil.Process]:
    found = []
    for process in psutil.process_iter():
        try:
            if word in " ".join(process.cmdline()) and process.status() != psutil.STATUS_ZOMBIE:
                found.append(process)
        except (psutil.NoSuchProcess, psutil.AccessDenied, psutil.ZombieProcess):
            continue
    return found


HANGS = """
if do == "run":
    import subprocess
    subprocess.Popen(["sleep", "98765"])
    time.sleep(99)
"""


@pytest.fixture
def worked(opens: Opens, artifact: Artifact, inputs: Arrays) -> CommandDevice:
    """A device on which a model ran already."""
    device = opens(timeout_s=3.0)
    with device.open(artifact, inputs):
        pass
    return device


@pytest.fixture(autouse=True)
def no_grace(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("autoprune.devices._caller.GRACE_SECONDS", 1.0)


def test_a_command_that_hangs_is_killed_with_its_children(
    worked: CommandDevice, board: Board, artifact: Artifact, inputs: Arrays
) -> None:
    board.breaks(HANGS)
    began = time.monotonic()
    told = r"not ended in time, so it was killed.*A model that ran there before"
    with pytest.raises(DeviceError, match=told), worked.open(artifact, inputs):
        pass
    assert time.monotonic() - began < 15
    assert not running("98765")


def test_a_model_that_hangs_is_to_blame_where_others_run(
    worked: CommandDevice, board: Board, artifact: Artifact, inputs: Arrays, tmp_path: Path
) -> None:
    bad = other(artifact, tmp_path / "bad.onnx", 5)
    board.breaks(f"if do == 'run' and rest[0].startswith('{bad.sha256}'): time.sleep(99)")
    with pytest.raises(StageError) as caught, worked.open(bad, inputs):
        pass
    assert caught.value.kind == "hang"
    assert not running(str(board.folder))


@pytest.mark.parametrize(
    ("ends", "kind"),
    [
        ("sys.exit('cannot allocate')", "runtime"),
        ("os.kill(os.getpid(), 9)", "out_of_memory"),
        ("os.kill(os.getpid(), 11)", "crash"),
        ("os._exit(137)", "out_of_memory"),
        ("print('unsupported operator'); sys.exit()", "runtime"),
        ("print('x' * 3_000_000); sys.exit()", "runtime"),
    ],
)
def test_a_model_that_fails_is_to_blame_where_others_run(
    worked: CommandDevice, board: Board, artifact: Artifact, inputs: Arrays, tmp_path: Path, ends: str, kind: str
) -> None:
    bad = other(artifact, tmp_path / "bad.onnx", 5)
    board.breaks(f"if do == 'run' and rest[0].startswith('{bad.sha256}'): {ends}")
    with pytest.raises(StageError) as caught, worked.open(bad, inputs):
        pass
    assert caught.value.kind == kind
    with worked.open(artifact, inputs) as session:
        assert len(session.run(2)) == 2


@pytest.mark.parametrize(
    "ends",
    [
        "sys.exit('bus error')",
        'print(\'{"runs": [{"us": 1e400}]}\'); sys.exit()',
        "print('garbage'); sys.exit()",
        "os.remove(__file__)",
    ],
)
def test_the_device_is_to_blame_where_what_ran_before_fails_too(
    worked: CommandDevice, board: Board, artifact: Artifact, inputs: Arrays, tmp_path: Path, ends: str
) -> None:
    board.breaks(f"if do == 'run': {ends}")
    if "remove" in ends:
        board.mends()
        (board.folder / "tool.py").unlink()
    with pytest.raises(DeviceError), worked.open(other(artifact, tmp_path / "bad.onnx", 5), inputs):
        pass


def test_a_device_that_forgot_what_was_sent_gets_it_again(
    worked: CommandDevice, board: Board, artifact: Artifact, inputs: Arrays
) -> None:
    for name in board.models:
        (board.folder / name).unlink()
    with worked.open(artifact, inputs) as session:
        assert len(session.run(3)) == 3


def test_a_full_device_is_to_blame(worked: CommandDevice, board: Board, artifact: Artifact, inputs: Arrays) -> None:
    board.breaks("if do == 'push': sys.exit('No space left on device')")
    full = pytest.raises(DeviceError, match=r"push failed: .*No space left on device")
    with full, worked.open(other(artifact, board.folder.parent / "other.onnx", 7), inputs):
        pass


@pytest.mark.parametrize("says", ["-1.0", "0", "NaN"])
def test_a_clock_that_lies_gives_no_number(worked: CommandDevice, board: Board, says: str) -> None:
    each = '{"us": ' + says + "}"
    board.breaks(f"if do == 'run': print('{{\"runs\": [' + ', '.join(['{each}'] * int(rest[2])) + ']}}'); sys.exit()")
    with pytest.raises(StageError) as caught:
        smoke(worked)
    assert caught.value.kind == "clock"


@pytest.mark.parametrize("gives", ["each", "mean"])
def test_durations_that_are_all_the_same_give_no_number(opens: Opens, board: Board, gives: str) -> None:
    device = opens(parse={"json_path": "runs[*].us", "unit": "us", "gives": gives}, predict=[])
    board.breaks("if do == 'run': print(json.dumps({'runs': [{'us': 5.0}] * int(rest[2])})); sys.exit()")
    with pytest.raises(StageError, match="all durations are the same"):
        smoke(device)


def test_durations_longer_than_the_command_itself_are_not_believed(opens: Opens) -> None:
    with pytest.raises(TargetError, match=r"took .* s itself: see parse.unit"):
        smoke(opens(parse={"json_path": "runs[*].us", "unit": "s", "gives": "each"}))


@pytest.mark.parametrize(
    ("parse", "says"),
    [
        ({"pattern": r"average: (\d+)", "unit": "ms", "gives": "mean"}, "printed 0 durations where 1"),
        ({"json_path": "times[*]", "unit": "ms", "gives": "each"}, "printed 0 durations where 1"),
        ({"json_path": "runs", "unit": "ms", "gives": "mean"}, "where a number was expected"),
        ({"pattern": '"(mean)_us"', "unit": "ms", "gives": "mean"}, "'mean' where a number was expected"),
        ({"pattern": r"((?:[\d.]+|\w+)+)[^\x00-\xff]", "unit": "ms", "gives": "mean"}, "longer than 1 s"),
    ],
)
def test_a_reading_that_never_fitted_is_the_profiles_fault(
    opens: Opens, monkeypatch: pytest.MonkeyPatch, parse: dict[str, str], says: str
) -> None:
    monkeypatch.setattr("autoprune.devices._reading.MATCH_SECONDS", 1.0)
    with pytest.raises(TargetError, match=says):
        smoke(opens(parse=parse))


def test_json_that_is_none_is_the_profiles_fault(opens: Opens, board: Board) -> None:
    board.breaks("if do == 'run': print('[' * 100_000); sys.exit()")
    with pytest.raises(TargetError, match="printed what is no JSON"):
        smoke(opens(predict=[]))


@pytest.mark.parametrize(
    "writes", ["0", "np.zeros(3, np.float32).tofile(rest[2] + '/0.bin')", "open(rest[2] + '/0.npy', 'wb').write(b'x')"]
)
def test_outputs_that_cannot_be_read(
    worked: CommandDevice, board: Board, artifact: Artifact, inputs: Arrays, writes: str
) -> None:
    board.breaks(f"if do == 'predict': {writes}; sys.exit()")
    with pytest.raises(StageError, match="wrote no outputs"), worked.predictor(artifact) as predict:
        predict(inputs)


def test_a_device_that_computes_something_else(device: CommandDevice, board: Board) -> None:
    board.breaks("if do == 'predict': np.save(rest[2] + '/0.npy', np.zeros((1, 64, 16, 16), np.float32)); sys.exit()")
    with pytest.raises(StageError, match="computes something else"):
        smoke(device)


def test_a_device_that_has_changed_is_not_measured_on(device: CommandDevice, board: Board) -> None:
    with device.lease():
        pass
    (board.folder / "soc").write_text("Example 9001")
    with pytest.raises(DeviceError, match="soc was Example 9000, is Example 9001"), device.lease():
        pass


# ------------------------------------------------------------------------------------------------ profiles


def test_a_program_that_is_not_here_is_named(opens: Opens) -> None:
    with pytest.raises(TargetError, match="needs program 'no-such-tool'"):
        opens(push=["no-such-tool", "{artifact}"])


def test_a_tool_that_is_not_here_is_named(opens: Opens) -> None:
    with pytest.raises(TargetError, match=r"/no/such/tool.*command.tool"):
        opens(tool="/no/such/tool")


def test_an_address_is_filled_in(opens: Opens, commands: dict[str, Any], board: Board) -> None:
    run = [*commands["run"], "{address}"]
    with pytest.raises(TargetError, match="--connect command://ADDRESS"):
        opens(run=run)
    profile = opens().profile.model_copy(update={"connection": "command://10.0.0.7:22"})
    assert open_device(profile).facts()
    for odd in ("command://-oProxyCommand=x", "command://a;b", "command://$(x)", "command:// "):
        with pytest.raises(TargetError, match="no address"):
            open_device(profile.model_copy(update={"connection": odd}))


def test_values_are_arguments_and_no_shell_reads_them(opens: Opens, artifact: Artifact, tmp_path: Path) -> None:
    odd = tmp_path / "$(touch gone); rm -rf '"
    odd.mkdir()
    (odd / "m.onnx").write_bytes(artifact.path.read_bytes())
    with opens().open(artifact.model_copy(update={"path": odd / "m.onnx"}), [np.zeros((1, 8, 8, 8), np.float32)]):
        pass
    assert not Path("gone").exists()


def test_a_section_is_needed(opens: Opens) -> None:
    with pytest.raises(TargetError, match="no section 'command'"):
        open_device(opens().profile.model_copy(update={"command": None}))
