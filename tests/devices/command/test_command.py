"""A device behind command lines: the contract of all devices, and what it is told."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from autoprune.devices import Arrays, Device, measure, open_device, smoke
from autoprune.devices._caller import KEPT
from autoprune.devices.ways.command import CommandDevice
from autoprune.errors import TargetError
from autoprune.records import Artifact
from autoprune.testing import DeviceContract
from tests.devices.command.conftest import QUICK, Board, Opens, other


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
