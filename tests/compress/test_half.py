"""FP16: the converted file runs, answers nearly the same, and keeps the types at its ends."""

from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest

from autoprune.compress import halve_onnx
from autoprune.devices.networks import convolutions
from autoprune.errors import StageError
from autoprune.export import TOLERANCE

IMAGES = np.random.default_rng(0).normal(size=(3, 16, 8, 8)).astype(np.float32)


def answers(path: Path) -> np.ndarray:
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    return np.asarray(session.run(None, {"input": IMAGES})[0])


@pytest.fixture
def source(tmp_path: Path) -> Path:
    path = tmp_path / "fp32.onnx"
    path.write_bytes(convolutions(16, kernel=3, layers=4, size=8).SerializeToString())
    return path


def test_it_answers_nearly_like_fp32_and_is_half_as_large(source: Path) -> None:
    target = source.with_name("fp16.onnx")
    halve_onnx(source, target)
    exact, found = answers(source), answers(target)
    assert found.dtype == np.float32
    error = np.abs(found - exact).max() / np.ptp(exact)
    assert 0 < error < TOLERANCE["fp16"] / 10
    assert target.stat().st_size < 0.6 * source.stat().st_size


def test_every_weight_is_fp16(source: Path) -> None:
    halve_onnx(source, source)
    onnx.checker.check_model(source, full_check=True)
    graph = onnx.load(source).graph
    assert {tensor.data_type for tensor in graph.initializer} == {onnx.TensorProto.FLOAT16}
    assert graph.input[0].type.tensor_type.elem_type == onnx.TensorProto.FLOAT


def test_weights_beyond_its_range_are_clipped_without_a_word(source: Path) -> None:
    model = onnx.load(source)
    weight = onnx.numpy_helper.to_array(model.graph.initializer[0]) * 1e6
    model.graph.initializer[0].CopyFrom(onnx.numpy_helper.from_array(weight, model.graph.initializer[0].name))
    onnx.save(model, source)
    halve_onnx(source, source)
    assert all(np.isfinite(onnx.numpy_helper.to_array(tensor)).all() for tensor in onnx.load(source).graph.initializer)


def test_what_cannot_be_converted_is_the_candidates_fault(tmp_path: Path) -> None:
    broken = tmp_path / "broken.onnx"
    broken.write_bytes(b"no model")
    with pytest.raises(StageError, match="Conversion to FP16 failed") as error:
        halve_onnx(broken, broken)
    assert error.value.kind == "convert"
