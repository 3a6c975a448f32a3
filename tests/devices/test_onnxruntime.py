import gc
import weakref
from pathlib import Path

import numpy as np
import pytest
from onnx import TensorProto, helper, numpy_helper

from autoprune.devices import Arrays, Device, open_device
from autoprune.devices.networks import convolutions
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

    def test_operators_are_named_as_in_the_graph(self, device: Device, artifact: Artifact, inputs: Arrays) -> None:
        operators = device.profile_operators(artifact, inputs)
        assert [operator.name for operator in operators if operator.op_type == "Conv"] == ["conv0", "conv1"]

    def test_session_is_freed_when_closed(self, device: Device, artifact: Artifact, inputs: Arrays) -> None:
        with device.open(artifact, inputs) as session:
            loaded = weakref.ref(session._runner._session)
        gc.collect()
        assert loaded() is None

    def test_renewed_session_gives_the_same_answers(self, device: Device, artifact: Artifact, inputs: Arrays) -> None:
        with device.open(artifact, inputs) as session:
            session.run(1)
            before = session._runner._binding.copy_outputs_to_cpu()[0]
            loaded = session._runner._session
            session.renew()
            session.run(1)
            assert session._runner._session is not loaded
            np.testing.assert_array_equal(session._runner._binding.copy_outputs_to_cpu()[0], before)
        with device.predictor(artifact) as predict:
            np.testing.assert_allclose(predict(inputs)[0], before, rtol=1e-5, atol=1e-6)

    def test_peak_memory_is_that_of_the_model_not_of_this_process(
        self, device: Device, artifact: Artifact, inputs: Arrays
    ) -> None:
        held = np.ones(400_000_000, np.uint8)
        assert device.peak_memory_bytes(artifact, inputs) < 100_000_000
        del held

    def test_peak_memory_grows_with_what_a_run_needs(self, device: Device, artifact: Artifact, inputs: Arrays) -> None:
        """17 MB per activation in the plain layout, more in the blocked one: at least one, few more."""
        large = [np.ones((1, 8, 724, 724), np.float32)]
        free = artifact.model_copy(update={"path": artifact.path.with_name("free.onnx")})
        model = convolutions(8, kernel=3, layers=2, size=8)
        for value in (*model.graph.input, *model.graph.output):
            for axis in value.type.tensor_type.shape.dim[2:]:
                axis.ClearField("dim_value")
        free.path.write_bytes(model.SerializeToString())
        grown = device.peak_memory_bytes(free, large) - device.peak_memory_bytes(artifact, inputs)
        assert 16e6 < grown < 8 * 17e6

    def test_out_of_memory_is_told_from_other_failures(self, device: Device, artifact: Artifact) -> None:
        huge = artifact.model_copy(update={"path": artifact.path.with_name("huge.onnx")})
        shape = numpy_helper.from_array(np.array([10**6, 10**6, 100]), "shape")
        node = helper.make_node("Expand", ["input", "shape"], ["output"])
        ends = [helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in ("input", "output")]
        ends[0] = helper.make_tensor_value_info("input", TensorProto.FLOAT, [1])
        graph = helper.make_graph([node], "huge", ends[:1], ends[1:], [shape])
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)
        huge.path.write_bytes(model.SerializeToString())
        one = [np.ones(1, np.float32)]
        with pytest.raises(StageError) as caught, device.open(huge, one) as session:
            session.run(1)
        assert caught.value.kind == "out_of_memory"
        with pytest.raises(StageError) as caught:
            device.peak_memory_bytes(huge, one)
        assert caught.value.kind == "out_of_memory"

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
