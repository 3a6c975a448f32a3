"""What can go wrong with a command, and who is to blame for it."""

import time
from pathlib import Path

import pytest

from autoprune.devices import Arrays, smoke
from autoprune.devices.ways.command import CommandDevice
from autoprune.errors import DeviceError, StageError, TargetError
from autoprune.records import Artifact
from tests.devices.command.conftest import Board, Opens, other
from tests.devices.processes import given, gone

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


def test_a_command_that_hangs_is_killed_with_its_children(
    worked: CommandDevice, board: Board, artifact: Artifact, inputs: Arrays
) -> None:
    board.breaks(HANGS)
    began = time.monotonic()
    told = r"not ended in time, so it was killed.*A model that ran there before"
    with pytest.raises(DeviceError, match=told), worked.open(artifact, inputs):
        pass
    assert time.monotonic() - began < 15
    assert gone(given("98765"))


def test_a_model_that_hangs_is_to_blame_where_others_run(
    worked: CommandDevice, board: Board, artifact: Artifact, inputs: Arrays, tmp_path: Path
) -> None:
    bad = other(artifact, tmp_path / "bad.onnx", 5)
    board.breaks(f"if do == 'run' and rest[0].startswith('{bad.sha256}'): time.sleep(99)")
    with pytest.raises(StageError) as caught, worked.open(bad, inputs):
        pass
    assert caught.value.kind == "hang"
    assert gone(given(str(board.folder)))


NONE = r"printed 0 of the \d+ durations that parse\.(pattern|json_path) is to find"


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
        (
            {"pattern": r"average: (\d+)", "unit": "ms", "gives": "mean"},
            NONE,
        ),
        (
            {"json_path": "times[*]", "unit": "ms", "gives": "each"},
            NONE,
        ),
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
