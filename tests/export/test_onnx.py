"""Fresh exports: what is in the file, what it computes, what a refusal says."""

import contextlib
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from torch import nn
from torch.onnx._internal.exporter import _registration

from autoprune.errors import StageError
from autoprune.export import export_fresh, parity
from tests.models import cifar_resnet


@pytest.fixture(autouse=True)
def _one_thread() -> None:
    torch.set_num_threads(1)


def predictor(path: Path):
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    names = [node.name for node in session.get_inputs()]
    return lambda arrays: session.run(None, dict(zip(names, arrays, strict=True)))


def test_export_is_one_clean_file_with_a_dynamic_batch(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    model, images = cifar_resnet(20), torch.randn(1, 3, 32, 32)
    artifact = export_fresh(model, (images,), tmp_path / "model.onnx")
    assert [path.name for path in tmp_path.iterdir()] == ["model.onnx"]
    assert capfd.readouterr() == ("", "")
    data = artifact.path.read_bytes()
    assert artifact.size_bytes == len(data)
    assert not [word for word in (b'.py", line', b"torch/nn", str(Path.cwd()).encode()) if word in data]
    graph = onnx.load(artifact.path).graph
    assert not graph.value_info
    assert graph.input[0].type.tensor_type.shape.dim[0].dim_param == "batch"
    assert graph.node[0].name == "conv1"
    assert not [node for node in graph.node if node.metadata_props or node.op_type == "BatchNormalization"]
    for batch in (1, 5):
        assert parity(predictor(artifact.path), model, (torch.randn(batch, 3, 32, 32),)) < 1e-5


def test_same_weights_give_the_same_bytes(tmp_path: Path) -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), nn.ReLU(), nn.Flatten(), nn.Linear(288, 4)).eval()
    first, second = (export_fresh(model, (torch.randn(2, 3, 8, 8),), tmp_path / f"{i}.onnx") for i in range(2))
    assert first.sha256 == second.sha256
    with torch.no_grad():
        model[4].bias += 1
    assert export_fresh(model, (torch.randn(2, 3, 8, 8),), tmp_path / "2.onnx").sha256 != first.sha256


class Recurrent(nn.Module):
    def __init__(self, kind: type[nn.RNNBase]) -> None:
        super().__init__()
        self.rnn = kind(4, 6, num_layers=2, batch_first=True, bidirectional=True)
        self.head = nn.Linear(12, 3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.head(self.rnn(x)[0][:, -1])


@pytest.mark.parametrize("kind", [nn.LSTM, nn.GRU])
def test_recurrent_models_use_onnx_operators(kind: type[nn.RNNBase], tmp_path: Path) -> None:
    model = Recurrent(kind).eval()
    artifact = export_fresh(model, (torch.randn(2, 7, 4),), tmp_path / "model.onnx")
    operators = [node.op_type for node in onnx.load(artifact.path).graph.node]
    assert operators.count(kind.__name__) == 2
    assert parity(predictor(artifact.path), model, (torch.randn(3, 7, 4),)) < 1e-5


class Refused(nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x + 1 if x.sum() > 0 else x


def test_a_refusal_is_a_sentence(tmp_path: Path) -> None:
    with pytest.raises(StageError, match="cannot be exported to ONNX") as caught:
        export_fresh(Refused().eval(), (torch.ones(2, 3),), tmp_path / "model.onnx")
    assert caught.value.kind == "export"
    assert not list(tmp_path.iterdir())


def test_parity_raises_with_figures() -> None:
    model, inputs = nn.Identity(), (torch.tensor([[0.0, 2.0]]),)
    assert parity(lambda arrays: arrays, model, inputs) == 0.0
    assert parity(lambda arrays: [arrays[0] + np.float32(0.5)], model, inputs, precision="int8") == pytest.approx(0.25)
    with pytest.raises(StageError, match=r"deviates from what it should compute by 0\.25") as caught:
        parity(lambda arrays: [arrays[0] + np.float32(0.5)], model, inputs)
    assert caught.value.kind == "parity"
    with pytest.raises(StageError, match="nan"):
        parity(lambda arrays: [arrays[0] * np.nan], model, inputs, precision="int8")
    with pytest.raises(StageError, match="shapes"):
        parity(lambda arrays: [arrays[0][:, :1]], model, inputs)


def test_reading_the_operators_once_changes_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    module, inputs = nn.Sequential(nn.Conv2d(3, 8, 3), nn.ReLU()).eval(), (torch.zeros(2, 3, 8, 8),)
    reads: list[int] = []
    apis = vars(_registration)["onnxscript_apis"]
    before = apis.get_torchlib_ops
    monkeypatch.setattr(apis, "get_torchlib_ops", lambda: reads.append(1) or before())
    quick = [export_fresh(module, inputs, tmp_path / f"{n}.onnx").sha256 for n in range(2)]
    assert len(reads) == 1
    monkeypatch.setattr("autoprune.export.onnx.read_once", contextlib.nullcontext)
    assert quick == [export_fresh(module, inputs, tmp_path / "plain.onnx").sha256] * 2
    assert len(reads) == 2
