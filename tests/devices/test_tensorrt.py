"""TensorRT, against a stand-in for its documented API; on a real GPU where there is one."""

import ctypes
import gc
import importlib
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

from autoprune.compress import halve_onnx, quantize_onnx
from autoprune.devices import Arrays, Device, measure, open_device, smoke
from autoprune.devices.runners._engines import sparse_layers
from autoprune.devices.runtimes.onnxruntime import OnnxRuntimeDevice
from autoprune.errors import DeviceError, StageError, TargetError
from autoprune.hardware import Capabilities, HardwareProfile, RuntimeOptions, TimingPolicy
from autoprune.records import Artifact
from autoprune.testing import DeviceContract

STAND_INS = Path(__file__).parent / "stand_ins"
POLICY = TimingPolicy(warmup_ms=2, blocks=6, block_ms=2, settle_percent=1000)


@pytest.fixture(params=["10.3.0", "11.4.1"])
def stand_in(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[ModuleType]:
    """The stand-in in this process, and in processes that it starts; a folder of its own for engines."""
    monkeypatch.setenv("STAND_IN_TENSORRT", request.param)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setenv("PYTHONPATH", f"{STAND_INS}{os.pathsep}{os.environ.get('PYTHONPATH', '')}")
    monkeypatch.syspath_prepend(STAND_INS)
    monkeypatch.setattr(ctypes, "CDLL", ctypes.CDLL)
    for name in ("tensorrt", "tensorrt.cudart"):
        monkeypatch.delitem(sys.modules, name, raising=False)
    yield importlib.import_module("tensorrt")
    for name in ("tensorrt", "tensorrt.cudart"):
        sys.modules.pop(name, None)


def gpu(**options: object) -> HardwareProfile:
    return HardwareProfile(
        name="gpu",
        description="a stand-in",
        runtime="tensorrt",
        options=RuntimeOptions.model_validate(options),
        timing=POLICY,
        capabilities=Capabilities(channel_multiple=8, precisions=("fp32", "fp16", "int8"), sparsity=("2:4",)),
    )


@pytest.fixture
def device(stand_in: ModuleType) -> Device:
    return open_device(gpu(cuda_graph=True, workspace_mb=64))


def engines(folder: Path) -> list[Path]:
    return sorted((folder / "cache" / "autoprune-engines").glob("*.engine"))


class TestTensorRtDevice(DeviceContract):
    def test_it_is_the_gpu_that_is_reserved_and_named(self, device: Device) -> None:
        assert device.lease_name == "gpu"
        told = {"gpu": "Stand-in GPU", "compute_capability": "8.7", "cuda": "12.6", "cuda_driver": "12.6"}
        assert told.items() <= device.facts().items()

    def test_an_engine_is_built_once(
        self, device: Device, artifact: Artifact, inputs: Arrays, stand_in: ModuleType, tmp_path: Path
    ) -> None:
        for _ in range(2):
            with device.open(artifact, inputs) as session:
                session.renew()
        assert sum(name == "build_serialized_network" for name, _ in stand_in.CALLS) == 1
        assert len(engines(tmp_path)) == 1

    def test_other_circumstances_are_another_engine(
        self, device: Device, artifact: Artifact, inputs: Arrays, stand_in: ModuleType, tmp_path: Path
    ) -> None:
        for other in (device, open_device(gpu(workspace_mb=32))):
            with other.open(artifact, inputs):
                pass
        assert len(engines(tmp_path)) == 2
        caches = [data for name, data in stand_in.CALLS if name == "create_timing_cache"]
        assert caches == [b"", b"timings"], "timings of kernels are kept from build to build"

    def test_an_engine_that_was_changed_is_not_loaded(
        self, device: Device, artifact: Artifact, inputs: Arrays, stand_in: ModuleType, tmp_path: Path
    ) -> None:
        with device.open(artifact, inputs):
            pass
        engines(tmp_path)[0].write_bytes(b"something else")
        with device.open(artifact, inputs) as session:
            assert session.run(1)
        assert sum(name == "build_serialized_network" for name, _ in stand_in.CALLS) == 2

    def test_it_is_built_as_told(
        self, device: Device, artifact: Artifact, inputs: Arrays, stand_in: ModuleType
    ) -> None:
        with device.open(artifact, inputs) as session:
            measured = measure(session, POLICY, device.circumstances("fp32"))
        [config] = [config for name, config in stand_in.CALLS if name == "build_serialized_network"]
        assert config.flags == {stand_in.BuilderFlag.SPARSE_WEIGHTS}, "2:4, and no TF32"
        assert config.pools == {stand_in.MemoryPoolType.WORKSPACE: 64 << 20}
        told = {"sparse_eligible": "2", "sparse_picked": "1", "cuda_graph": "true", "tf32": "false"}
        assert told.items() <= measured.conditions.items()

    def test_with_a_cuda_graph_nothing_else_is_launched(
        self, device: Device, artifact: Artifact, inputs: Arrays, stand_in: ModuleType
    ) -> None:
        with device.open(artifact, inputs) as session:
            del stand_in.CUDART.calls[:]
            session.run(3)
            assert stand_in.CUDART.calls.count("cudaGraphLaunch") == 3
        with open_device(gpu(cuda_graph=False)).open(artifact, inputs) as session:
            del stand_in.CUDART.calls[:]
            session.run(3)
            assert "cudaGraphLaunch" not in stand_in.CUDART.calls
            assert stand_in.CUDART.calls.count("cudaEventRecord") == 6

    def test_memory_is_given_back_by_renewing(
        self, device: Device, artifact: Artifact, inputs: Arrays, stand_in: ModuleType
    ) -> None:
        with device.open(artifact, inputs) as session:
            held = len(stand_in.CUDART.memory)
            session.renew()
            assert len(stand_in.CUDART.memory) == held

    def test_memory_is_given_back_when_closed(
        self, device: Device, artifact: Artifact, inputs: Arrays, stand_in: ModuleType
    ) -> None:
        with device.open(artifact, inputs):
            assert stand_in.CUDART.memory
        gc.collect()
        assert not stand_in.CUDART.memory
        assert not [one for one in stand_in.CUDART.handles.values() if one == "stream"]

    def test_more_samples_than_the_engine_takes_are_run_in_parts(self, device: Device, artifact: Artifact) -> None:
        images = np.random.default_rng(1).normal(size=(5, 8, 8, 8)).astype(np.float32)
        pairs = open_device(gpu(batch=2))
        here = OnnxRuntimeDevice(device.profile.model_copy(update={"runtime": "onnxruntime"}))
        with pairs.predictor(artifact) as predict, here.predictor(artifact) as wanted:
            np.testing.assert_allclose(predict([images])[0], wanted([images])[0], rtol=1e-4, atol=1e-5)

    def test_layers_have_the_names_of_the_model(self, device: Device, artifact: Artifact, inputs: Arrays) -> None:
        found = device.profile_operators(artifact, inputs)
        assert [(one.name, one.op_type) for one in found] == [
            ("conv0", "Conv"),
            ("relu0", "Relu"),
            ("conv1", "Conv"),
            ("relu1", "Relu"),
        ]

    def test_every_precision_is_taken(self, device: Device, artifact: Artifact, inputs: Arrays, tmp_path: Path) -> None:
        half, small, plain = (tmp_path / f"{name}.onnx" for name in ("half", "small", "plain"))
        halve_onnx(artifact.path, half)
        quantize_onnx(artifact.path, small, [tuple(inputs)], symmetric=True)
        for path in (half, small):
            with device.open(artifact.model_copy(update={"path": path}), inputs) as session:
                assert session.run(1)
        quantize_onnx(artifact.path, plain, [tuple(inputs)])
        with (
            pytest.raises(StageError, match=r"cannot read the ONNX file.*zero point"),
            device.open(artifact.model_copy(update={"path": plain}), inputs),
        ):
            pass

    def test_the_smoke_test_passes(self, device: Device) -> None:
        timed, error = smoke(device)
        assert timed.median_ms > 0
        assert error < 1e-5

    def test_no_gpu_is_said_before_anything_is_tried(self, device: Device, stand_in: ModuleType) -> None:
        stand_in.CUDART.gpus = 0
        with pytest.raises(TargetError, match="'gpu': runtime 'tensorrt' fails: CUDA finds no GPU"):
            device.facts()
        with pytest.raises(DeviceError, match="CUDA finds no GPU"):
            smoke(open_device(gpu()))


def test_engines_make_room(stand_in: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    module = importlib.import_module("autoprune.devices.runners._engines")
    monkeypatch.setattr(module, "MOST_BYTES", 250)
    kept = module.Engines()
    for number in range(4):
        module.write_whole(kept.path({"n": number}), bytes(100))
        os.utime(kept.path({"n": number}), (number, number))
        kept.keep({"n": number}, {})
        os.utime(kept.path({"n": number}), (number, number))
    assert [kept.conditions({"n": number}) is not None for number in range(4)] == [False, False, True, True]
    assert len(list(Path(kept.folder).iterdir())) == 4


@pytest.mark.parametrize(
    ("line", "found"),
    [
        ("(Sparsity) Layers eligible for sparse math: conv1, conv2, conv3", {"sparse_eligible": "3"}),
        (
            "[I] [TRT] (Sparsity) TRT inference plan picked sparse implementation for layers: conv2",
            {"sparse_picked": "1"},
        ),
        ("(Sparsity) TRT inference plan picked sparse implementation for layers:", {"sparse_picked": "0"}),
        ("(Sparsity) Found 39 layer(s) eligible to use sparse tactics", {"sparse_eligible": "39"}),
        ("(Sparsity) Chose 0 layer(s) using sparse tactics: ", {"sparse_picked": "0"}),
        ("Layers eligible for other things: 3", {}),
    ],
)
def test_what_the_builder_says_of_sparsity_is_read(line: str, found: dict[str, str]) -> None:
    assert sparse_layers(line) == found


def test_an_option_of_another_runtime_is_refused(profile: HardwareProfile) -> None:
    wrong = profile.model_copy(update={"options": RuntimeOptions(cuda_graph=True)})
    with pytest.raises(TargetError, match=r"'onnxruntime' has no option cuda_graph: it knows threads, batch\."):
        open_device(wrong)


@pytest.mark.skipif(
    not Path("/dev/nvidiactl").exists() and not Path("/dev/nvhost-gpu").exists(), reason="no NVIDIA GPU"
)
class TestOnAGpu(DeviceContract):
    """The real thing; what is above says nothing of it."""

    @pytest.fixture
    def device(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Device:
        pytest.importorskip("tensorrt")
        monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
        return open_device(gpu(cuda_graph=True))

    def test_it_computes_the_same(self, device: Device) -> None:
        assert smoke(device)[1] < 1e-3
