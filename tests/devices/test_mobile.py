"""ExecuTorch and LiteRT, for real: the contract, what is theirs alone, and the same model in all runtimes."""

from pathlib import Path

import numpy as np
import pytest

from autoprune.devices import Arrays, Device, open_device
from autoprune.devices.networks import network
from autoprune.errors import StageError
from autoprune.hardware import Capabilities, HardwareProfile, RuntimeOptions
from autoprune.records import Artifact
from autoprune.testing import DeviceContract


def profile_of(runtime: str, *, threads: int = 1) -> HardwareProfile:
    return HardwareProfile(
        name="here",
        description="this machine",
        runtime=runtime,
        options=RuntimeOptions(threads=threads),
        capabilities=Capabilities(channel_multiple=8),
    )


class MobileContract(DeviceContract):
    runtime: str

    @pytest.fixture
    def device(self) -> Device:
        return open_device(profile_of(self.runtime))

    @pytest.fixture(scope="class")
    @classmethod
    def artifact(cls, tmp_path_factory: pytest.TempPathFactory) -> Artifact:
        form = open_device(profile_of(cls.runtime)).format
        return network(tmp_path_factory.mktemp("mobile") / "model", form, width=8, kernel=3, layers=2, size=8)

    def test_computes_what_onnx_runtime_computes(
        self, device: Device, artifact: Artifact, inputs: Arrays, tmp_path: Path
    ) -> None:
        reference = network(tmp_path / "model", "onnx", width=8, kernel=3, layers=2, size=8)
        many = [np.random.default_rng(1).normal(size=(5, 8, 8, 8)).astype(np.float32)]
        with (
            device.predictor(artifact) as predict,
            open_device(profile_of("onnxruntime")).predictor(reference) as wanted,
        ):
            for batch in (inputs, many):
                np.testing.assert_allclose(predict(batch)[0], wanted(batch)[0], atol=1e-4)

    def test_renewed_session_is_another(self, device: Device, artifact: Artifact, inputs: Arrays) -> None:
        with device.open(artifact, inputs) as session:
            loaded = session._runner._session  # type: ignore[attr-defined]
            session.renew()
            assert session._runner._session is not loaded  # type: ignore[attr-defined]
            assert len(session.run(3)) == 3

    def test_nothing_is_written_to_the_terminal(
        self, device: Device, artifact: Artifact, inputs: Arrays, capfd: pytest.CaptureFixture[str]
    ) -> None:
        with device.open(artifact, inputs) as session, device.predictor(artifact) as predict:
            session.run(1)
            predict(inputs)
        wrong = [np.zeros((1,), np.float32)]
        with pytest.raises(StageError), device.open(artifact, wrong) as session:
            session.run(1)
        assert capfd.readouterr() == ("", "")

    def test_wrong_number_of_inputs_is_a_stage_error(self, device: Device, artifact: Artifact, inputs: Arrays) -> None:
        with device.predictor(artifact) as predict, pytest.raises(StageError):
            predict([*inputs, *inputs])


class TestExecuTorch(MobileContract):
    runtime = "executorch"
    pytest.importorskip("executorch", reason="ExecuTorch is not installed")

    def test_operators_are_those_of_the_backend(self, device: Device, artifact: Artifact, inputs: Arrays) -> None:
        operators = device.profile_operators(artifact, inputs)
        assert sum("Convolution" in operator.op_type for operator in operators) == 2
        assert len({operator.name for operator in operators}) == len(operators)

    def test_timed_runs_compute_what_is_predicted(self, device: Device, artifact: Artifact, inputs: Arrays) -> None:
        with device.open(artifact, inputs) as session, device.predictor(artifact) as predict:
            session.run(3)
            [found] = session._runner._session.method.get_outputs()  # type: ignore[attr-defined]
            np.testing.assert_array_equal(found.numpy(), predict(inputs)[0])

    def test_loaded_model_keeps_its_threads(self, device: Device, artifact: Artifact, inputs: Arrays) -> None:
        """A pool that is replaced under a loaded model is memory used after it was freed."""
        more = open_device(profile_of(self.runtime, threads=2))
        with (
            device.open(artifact, inputs) as session,
            pytest.raises(StageError, match="other than 2 threads"),
            more.open(artifact, inputs),
        ):
            pass
        del session
        with more.open(artifact, inputs) as session:
            assert len(session.run(3)) == 3
        del session
        with device.open(artifact, inputs) as session:
            assert len(session.run(3)) == 3


class TestLiteRt(MobileContract):
    runtime = "litert"
    has_profiler = False
    pytest.importorskip("litert_torch", reason="litert-torch is not installed")
