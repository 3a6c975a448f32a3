"""The INT8 artifact runs, answers like the FP32 one, and leaves nothing behind."""

import logging
import tempfile
import warnings
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
import torch

from autoprune.compress import quantize_onnx
from autoprune.compress.quantize import CALIBRATION_BATCH, CALIBRATION_SAMPLES, VNNI, _quiet, first_samples, saturates
from autoprune.devices.runners.board import FLAGS
from autoprune.devices.runtimes.onnxruntime import OnnxRuntimeDevice
from autoprune.errors import StageError
from autoprune.records import Artifact
from tests.compress.conftest import Digits


@pytest.fixture(scope="module")
def exported(digits: Digits, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("onnx") / "digits.onnx"
    batch = torch.export.Dim("batch")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the exporter's own deprecations
        torch.onnx.export(
            digits.task.model(),
            digits.task.example_inputs,
            str(path),
            dynamo=True,
            external_data=False,
            dynamic_shapes=({0: batch},),
            verbose=False,
        )
    return path


def predict(path: Path, images: np.ndarray) -> np.ndarray:
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    return np.asarray(session.run(None, {session.get_inputs()[0].name: images})[0])


def calibration(digits: Digits) -> list[tuple[np.ndarray, ...]]:
    return [(inputs.numpy(),) for inputs, _ in digits.task.train]


def test_the_int8_artifact_answers_like_the_fp32_one(
    digits: Digits,
    exported: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
    caplog: pytest.LogCaptureFixture,
) -> None:
    temporary = tmp_path / "temporary"
    temporary.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(temporary))
    target = tmp_path / "int8.onnx"
    with caplog.at_level(logging.DEBUG):
        quantize_onnx(exported, target, calibration(digits), reduce_range=True)  # so that it runs on any CPU
    assert capfd.readouterr() == ("", "")
    assert not caplog.records
    assert sorted(path.name for path in tmp_path.rglob("*")) == ["int8.onnx", "temporary"]
    images, labels = digits.images.numpy(), digits.labels.numpy()
    dense, small = predict(exported, images), predict(target, images)
    accuracies = [(outputs.argmax(1) == labels).mean() for outputs in (dense, small)]
    assert accuracies[1] > accuracies[0] - 0.02
    assert (dense.argmax(1) == small.argmax(1)).mean() > 0.97
    assert predict(target, images[:1]).shape == (1, 10)


def test_weights_are_per_channel_and_batchnorm_is_folded(digits: Digits, exported: Path, tmp_path: Path) -> None:
    quantize_onnx(exported, tmp_path / "int8.onnx", calibration(digits))
    graph = onnx.load(tmp_path / "int8.onnx").graph
    weights = {tensor.name: onnx.numpy_helper.to_array(tensor) for tensor in graph.initializer}
    matrices = [array for array in weights.values() if array.ndim > 1]
    assert {array.dtype for array in matrices} == {np.dtype(np.int8)}
    scales = {node.input[1] for node in graph.node if node.op_type == "DequantizeLinear"}
    assert {weights[name].size for name in scales if weights[name].ndim == 1} >= {16, 32}
    assert not [node for node in graph.node if node.op_type == "BatchNormalization"]
    zeros = {node.input[2] for node in graph.node if node.op_type == "QuantizeLinear"}
    assert {weights[name].dtype for name in zeros} == {np.dtype(np.uint8)}


def test_symmetric_is_what_tensorrt_takes(digits: Digits, exported: Path, tmp_path: Path) -> None:
    target = tmp_path / "int8.onnx"
    quantize_onnx(exported, target, calibration(digits), symmetric=True)
    graph = onnx.load(target).graph
    weights = {tensor.name: onnx.numpy_helper.to_array(tensor) for tensor in graph.initializer}
    points = {node.input[2] for node in graph.node if node.op_type in ("QuantizeLinear", "DequantizeLinear")}
    assert {weights[name].dtype for name in points} == {np.dtype(np.int8)}
    assert all(not weights[name].any() for name in points)
    matrices = [array for array in weights.values() if array.ndim > 1]
    assert {array.dtype for array in matrices} == {np.dtype(np.int8)}
    assert min(array.min() for array in matrices) >= -127
    assert not [name for name, array in weights.items() if array.dtype == np.int32], "biases stay as they are"
    images, labels = digits.images.numpy(), digits.labels.numpy()
    found = scored(target, images)
    assert (found.argmax(1) == labels).mean() > (predict(exported, images).argmax(1) == labels).mean() - 0.02


def scored(path: Path, images: np.ndarray) -> np.ndarray:
    """Outputs, whatever the CPU: fast 8-bit products may saturate."""
    artifact = Artifact(path=path, precision="int8", sha256="0" * 64, size_bytes=path.stat().st_size)
    with OnnxRuntimeDevice.here().predictor(artifact) as compute:
        return compute([images])[0]


@pytest.mark.parametrize(("reduced", "largest"), [(True, 64), (False, 127)])
def test_weights_take_as_many_bits_as_wanted(
    digits: Digits, exported: Path, tmp_path: Path, reduced: bool, largest: int
) -> None:
    target = tmp_path / "int8.onnx"
    quantize_onnx(exported, target, calibration(digits), reduce_range=reduced)
    arrays = [onnx.numpy_helper.to_array(tensor) for tensor in onnx.load(target).graph.initializer]
    assert max(int(np.abs(array.astype(int)).max()) for array in arrays if array.dtype == np.int8) == largest
    images, dense = digits.images.numpy(), predict(exported, digits.images.numpy())
    assert (dense.argmax(1) == scored(target, images).argmax(1)).mean() > 0.97


def test_the_same_calibration_gives_the_same_bytes(digits: Digits, exported: Path, tmp_path: Path) -> None:
    for name in ("a.onnx", "b.onnx"):
        quantize_onnx(exported, tmp_path / name, calibration(digits))
    assert (tmp_path / "a.onnx").read_bytes() == (tmp_path / "b.onnx").read_bytes()


def test_the_quantisers_log_is_silenced_and_then_heard_again(caplog: pytest.LogCaptureFixture) -> None:
    with _quiet():
        logging.error("advice")
    assert not caplog.records
    logging.error("heard")
    assert len(caplog.records) == 1


def test_calibration_is_bounded() -> None:
    batches = [(np.zeros((60, 2)),)] * 4
    sizes = [len(batch[0]) for batch in first_samples(batches, CALIBRATION_SAMPLES)]
    assert sum(sizes) == CALIBRATION_SAMPLES
    assert max(sizes) == CALIBRATION_BATCH


def test_a_model_that_cannot_be_quantised_is_the_candidates_fault(exported: Path, tmp_path: Path) -> None:
    with pytest.raises(StageError, match="INT8 quantisation failed") as error:
        quantize_onnx(exported, tmp_path / "int8.onnx", [(np.zeros((4, 3, 8, 8), dtype=np.float32),)])
    assert error.value.kind == "quantize"


@pytest.mark.parametrize(
    ("facts", "expected"),
    [
        ({"os": "Linux x86_64", "flags": "avx2"}, True),
        ({"os": "Linux x86_64", "flags": "avx2 avx512f"}, True),
        ({"os": "Linux x86_64", "flags": "avx2 avx512f avx512_vnni"}, False),
        ({"os": "Linux x86_64", "flags": "avx2 avx_vnni"}, False),
        ({"os": "Linux i686"}, True),
        ({"os": "Windows AMD64"}, True),
        ({"os": "Linux x86_64", "flags": "avx2", "provider": "CPUExecutionProvider"}, True),
        ({"os": "Linux x86_64", "flags": "avx2", "provider": "CUDAExecutionProvider"}, False),
        ({"os": "Linux aarch64", "flags": "asimd asimddp"}, False),
        ({"os": "Darwin arm64"}, False),
        ({}, False),
    ],
)
def test_whether_sums_overflow_follows_the_device(facts: dict[str, str], expected: bool) -> None:
    assert saturates(facts) is expected


def test_the_flags_are_those_that_a_board_tells() -> None:
    assert set(FLAGS) >= VNNI
