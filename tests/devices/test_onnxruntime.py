import gc
import tempfile
import weakref
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, helper, numpy_helper

from autoprune.devices import Arrays, Device, open_device
from autoprune.devices.local import stage_errors
from autoprune.devices.networks import convolutions
from autoprune.devices.runners._base import RunnerError
from autoprune.devices.runners.onnxruntime import Runner
from autoprune.errors import DeviceError, StageError, TargetError
from autoprune.hardware import Capabilities, HardwareProfile, RuntimeOptions
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
            before = bound(session).copy_outputs_to_cpu()[0]
            loaded = session._runner._session
            session.renew()
            session.run(1)
            assert session._runner._session is not loaded
            np.testing.assert_array_equal(bound(session).copy_outputs_to_cpu()[0], before)
        with device.predictor(artifact) as predict:
            np.testing.assert_allclose(predict(inputs)[0], before, rtol=1e-5, atol=1e-6)

    def test_nothing_of_a_session_is_left_when_it_is_loaded_anew(
        self, device: Device, artifact: Artifact, inputs: Arrays
    ) -> None:
        with device.open(artifact, inputs) as session:
            parts = weakref.ref(session._runner._session), weakref.ref(bound(session))
            load, padding, left = session._runner.load, session._runner._padding, list[object]()
            assert padding

            def loading(threads: int) -> object:
                left.extend((*(part() for part in parts), *padding))
                return load(threads)

            with mock.patch.object(session._runner, "load", loading):
                session.renew()
        assert left == [None, None]

    def test_graph_is_optimised_once_and_loaded_as_often_as_wanted(
        self, device: Device, artifact: Artifact, inputs: Arrays
    ) -> None:
        with (
            device.open(artifact, inputs) as session,
            mock.patch.object(onnxruntime, "InferenceSession", wraps=onnxruntime.InferenceSession) as made,
        ):
            session.renew()
            session.renew()
        levels = [call.args[1].graph_optimization_level for call in made.call_args_list]
        assert levels == 2 * [onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL]
        nodes = [onnx.load_from_string(call.args[0]).graph.node for call in made.call_args_list]
        assert not any(node.op_type == "Relu" for model in nodes for node in model), "it is part of the convolutions"

    def test_no_room_for_the_optimised_graph_only_costs_time(
        self, device: Device, artifact: Artifact, inputs: Arrays, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(tempfile, "tempdir", "/dev/full")
        with device.open(artifact, inputs) as session:
            assert min(session.run(3)) > 0

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


class Sessions:
    """A recording stand-in for the package where an execution provider is not in the build that is here."""

    __version__ = "9.9"
    ExecutionMode = onnxruntime.ExecutionMode
    GraphOptimizationLevel = onnxruntime.GraphOptimizationLevel

    def __init__(self, *available: str, starts: str) -> None:
        self.available, self.starts = list(available), starts
        self.asked: dict[str, Any] = {}

    def get_available_providers(self) -> list[str]:
        return self.available

    def SessionOptions(self) -> Any:
        return onnxruntime.SessionOptions()

    def InferenceSession(self, path: str, options: Any, **asked: Any) -> Any:
        self.asked = {**asked, "threads": options.intra_op_num_threads}
        self.asked["spinning"] = options.get_session_config_entry("session.intra_op.allow_spinning")
        session = mock.Mock()
        session.get_providers.return_value = [self.starts, "CPUExecutionProvider"]
        return session


def bound(session: Any) -> Any:
    """The inputs and outputs of what is timed."""
    return session._runner._infer.args[0]


def with_options(profile: HardwareProfile, **options: Any) -> HardwareProfile:
    return profile.model_copy(update={"options": RuntimeOptions(**options)})


@pytest.mark.parametrize("provider", ["xnnpack", "cuda", "tensorrt"])
def test_a_provider_that_is_not_in_this_build_is_refused(profile: HardwareProfile, provider: str) -> None:
    if any(provider in name.lower() for name in onnxruntime.get_available_providers()):
        pytest.skip("this build has it")
    with pytest.raises(TargetError, match=r"this build has no \w+ExecutionProvider, it has .*CPUExecutionProvider"):
        open_device(with_options(profile, provider=provider)).facts()


def test_xnnpack_gets_the_threads_and_the_pool_of_onnx_runtime_stands_aside() -> None:
    build = Sessions("XnnpackExecutionProvider", "CPUExecutionProvider", starts="XnnpackExecutionProvider")
    runner = Runner("m.onnx", {"threads": 4, "provider": "xnnpack", "inputs": []}, b"")
    with mock.patch.object(Runner, "import_runtime", return_value=build):
        told = runner.do_hello({}, b"")[0]
        runner.do_load({}, b"")
        runner.load(4)
    assert build.asked == {
        "providers": ["XnnpackExecutionProvider"],
        "provider_options": [{"intra_op_num_threads": "4"}],
        "threads": 1,
        "spinning": "0",
    }
    assert told["facts"] == {"provider": "XnnpackExecutionProvider"}
    assert told["conditions"]["session.intra_op.allow_spinning"] == "0"


def test_a_provider_that_steps_back_in_silence_is_no_candidates_fault() -> None:
    build = Sessions("CUDAExecutionProvider", "CPUExecutionProvider", starts="CPUExecutionProvider")
    runner = Runner("m.onnx", {"threads": 1, "provider": "cuda", "inputs": []}, b"")
    with mock.patch.object(Runner, "import_runtime", return_value=build), pytest.raises(RunnerError) as caught:
        runner.do_load({}, b"")
    assert "CUDAExecutionProvider does not start, and CPUExecutionProvider took its place" in str(caught.value)
    assert caught.value.kind == "provider"
    with pytest.raises(DeviceError), stage_errors():
        raise caught.value


def test_threads_may_wait_idly(profile: HardwareProfile, artifact: Artifact, inputs: Arrays) -> None:
    device = open_device(with_options(profile, spinning=False, threads=2))
    assert device.conditions()["session.intra_op.allow_spinning"] == "0"
    with device.open(artifact, inputs) as session:
        assert len(session.run(3)) == 3
    assert open_device(profile).conditions()["session.intra_op.allow_spinning"] == "1"


def test_another_provider_is_another_device(profile: HardwareProfile) -> None:
    assert open_device(profile).facts()["provider"] == "CPUExecutionProvider"
