"""PyTorch, for real on this CPU; on a GPU where there is one."""

import sys
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import pytest
import torch

from autoprune.devices import Arrays, Device, open_device, smoke
from autoprune.devices.networks import network
from autoprune.errors import StageError, TargetError
from autoprune.export import TOLERANCE
from autoprune.export.formats import find_format
from autoprune.hardware import Capabilities, HardwareProfile, RuntimeOptions, TimingPolicy
from autoprune.records import Artifact
from autoprune.testing import DeviceContract

POLICY = TimingPolicy(warmup_ms=5, block_ms=5, settle_percent=1000)


def profile_of(**options: object) -> HardwareProfile:
    return HardwareProfile(
        name="here",
        description="this machine",
        runtime="torch",
        options=RuntimeOptions.model_validate(options),
        timing=POLICY,
        capabilities=Capabilities(channel_multiple=8),
    )


class TorchContract(DeviceContract):
    @pytest.fixture(scope="class")
    @classmethod
    def artifact(cls, tmp_path_factory: pytest.TempPathFactory) -> Artifact:
        return network(tmp_path_factory.mktemp("torch") / "model", "pt2", width=8, kernel=3, layers=2, size=8)

    def test_it_computes_what_onnx_runtime_computes(self, device: Device, artifact: Artifact, tmp_path: Path) -> None:
        here = open_device(HardwareProfile(name="here", description="", runtime="onnxruntime"))
        same = network(tmp_path / "model", "onnx", width=8, kernel=3, layers=2, size=8)
        images = [np.random.default_rng(1).normal(size=(5, 8, 8, 8)).astype(np.float32)]
        with device.predictor(artifact) as predict, here.predictor(same) as wanted:
            np.testing.assert_allclose(predict(images)[0], wanted(images)[0], atol=1e-4)

    def test_operators_are_those_of_the_graph(self, device: Device, artifact: Artifact, inputs: Arrays) -> None:
        kinds = [one.op_type for one in device.profile_operators(artifact, inputs)]
        assert kinds == ["aten.conv2d.default", "aten.relu.default"] * 2

    def test_renewed_weights_are_elsewhere_and_the_same(
        self, device: Device, artifact: Artifact, inputs: Arrays
    ) -> None:
        with device.open(artifact, inputs) as session:
            runner = session._runner  # type: ignore[attr-defined]
            before = {name: (value.data_ptr(), value.clone()) for name, value in runner._module.named_parameters()}
            session.renew()
            for name, value in runner._module.named_parameters():
                assert value.data_ptr() != before[name][0]
                assert torch.equal(value, before[name][1])

    def test_the_smoke_test_passes(self, device: Device) -> None:
        assert smoke(device)[1] < 1e-3


class TestTorchOnTheCpu(TorchContract):
    @pytest.fixture
    def device(self) -> Device:
        return open_device(profile_of())

    def test_threads_of_this_process_are_left_alone(self, device: Device, artifact: Artifact, inputs: Arrays) -> None:
        before = torch.get_num_threads()
        other = open_device(profile_of(threads=before + 1))
        with other.open(artifact, inputs) as session:
            session.run(2)
            assert torch.get_num_threads() == before
        assert device.lease_name == "cpu"

    def test_training_goes_on_beside_it(self, device: Device, artifact: Artifact, inputs: Arrays) -> None:
        with device.open(artifact, inputs) as session:
            session.run(2)
            weight = torch.ones(1, requires_grad=True)
            (2 * weight).sum().backward()
            assert weight.grad is not None

    def test_half_is_close_and_keeps_types(self, device: Device, inputs: Arrays, tmp_path: Path) -> None:
        module = torch.nn.Sequential(torch.nn.Conv2d(8, 8, 3, padding=1), torch.nn.ReLU()).eval()
        samples = tuple(map(torch.from_numpy, inputs))
        form = find_format("pt2")
        exact, half = (form.write(module, samples, tmp_path / f"{p}.pt2", precision=p) for p in ("fp32", "fp16"))
        with device.predictor(exact) as precise, device.predictor(half) as rough:
            wanted, found = precise(inputs)[0], rough(inputs)[0]
        assert found.dtype == np.float32
        assert 0 < np.abs(found - wanted).max() / np.ptp(wanted) < TOLERANCE["fp16"] / 10
        assert next(module.parameters()).dtype == torch.float32, "the module itself stays as it is"

    def test_what_a_gpu_elsewhere_runs_is_scored_on_this_cpu(self) -> None:
        there = open_device(
            profile_of(processor="cuda", cuda_graph=True).model_copy(update={"connection": "ssh://gpu"})
        )
        images = [np.zeros((1, 8, 8, 8), np.float32)]
        with TemporaryDirectory() as folder:
            made = network(Path(folder) / "model", there.format, width=8, kernel=3, layers=1, size=8)
            with there.scorer(made) as predict:
                assert predict(images)[0].shape == (1, 8, 8, 8)

    def test_int8_is_refused(self, inputs: Arrays, tmp_path: Path) -> None:
        with pytest.raises(StageError, match="fp32 and fp16, not in int8"):
            find_format("pt2").write(torch.nn.ReLU(), (torch.zeros(1),), tmp_path / "x.pt2", precision="int8")

    def test_a_fixed_batch_is_filled(self, device: Device, tmp_path: Path) -> None:
        class Fixed(torch.nn.Module):
            def forward(self, images: torch.Tensor) -> torch.Tensor:
                return images.reshape(2, 4) * 2

        artifact = find_format("pt2").write(Fixed(), (torch.ones(2, 4),), tmp_path / "fixed.pt2")
        images = np.arange(12, dtype=np.float32).reshape(3, 4)
        with device.predictor(artifact) as predict:
            np.testing.assert_array_equal(predict([images])[0], 2 * images)


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="torch.compile wants a compiler of C++")
def test_compiled_it_runs_and_computes_the_same(inputs: Arrays, tmp_path: Path) -> None:
    artifact = network(tmp_path / "model", "pt2", width=8, kernel=3, layers=2, size=8)
    compiled, eager = open_device(profile_of(compiled=True)), open_device(profile_of())
    with compiled.open(artifact, inputs) as session:
        assert len(session.run(3)) == 3
        session.renew()
        assert len(session.run(3)) == 3
    with compiled.predictor(artifact) as predict, eager.predictor(artifact) as wanted:
        np.testing.assert_allclose(predict(inputs)[0], wanted(inputs)[0], atol=1e-5)
    assert compiled.conditions()["compiled"] == "true"


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_no_gpu_is_said() -> None:
    device = open_device(profile_of(processor="cuda"))
    assert device.lease_name == "gpu"
    with pytest.raises(TargetError, match="runtime 'torch' fails: PyTorch finds no GPU"):
        device.facts()


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no NVIDIA GPU")
class TestTorchOnAGpu(TorchContract):
    """The real thing."""

    @pytest.fixture(params=[False, True])
    def device(self, request: pytest.FixtureRequest) -> Device:
        return open_device(profile_of(processor="cuda", cuda_graph=request.param))
