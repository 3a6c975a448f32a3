from pathlib import Path

import pytest

from autoprune.devices import Arrays, Device, open_device
from autoprune.errors import StageError
from autoprune.hardware import Capabilities, HardwareProfile
from autoprune.records import Artifact
from autoprune.testing import DeviceContract


class TestOnnxRuntimeDevice(DeviceContract):
    @pytest.fixture
    def device(self, profile: HardwareProfile) -> Device:
        return open_device(profile.model_copy(update={"capabilities": Capabilities(channel_multiple=8)}))

    def test_declared_multiple_wins(self, device: Device) -> None:
        assert device.channel_multiple() == 8

    def test_batch_and_names_of_operators(self, device: Device, artifact: Artifact, inputs: Arrays) -> None:
        operators = device.profile_operators(artifact, inputs)
        assert [operator.op_type for operator in operators].count("Conv") == 2

    def test_profile_leaves_no_file(
        self, device: Device, artifact: Artifact, inputs: Arrays, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.chdir(tmp_path)
        device.profile_operators(artifact, inputs)
        assert list(tmp_path.iterdir()) == []

    def test_error_names_the_runtime(self, device: Device, artifact: Artifact, inputs: Arrays) -> None:
        with (
            pytest.raises(StageError, match="ONNX Runtime") as caught,
            device.open(artifact, [inputs[0][:, :3]]) as session,
        ):
            session.run(1)
        assert caught.value.kind == "runtime"
