"""The fast path: the same bytes as a fresh export for random cuts, and a fresh export where it cannot be sure."""

import random
from pathlib import Path

import onnx
import onnx_ir
import onnxruntime
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from autoprune.export import Exporter, export_fresh, parity
from autoprune.export.template import Template
from autoprune.graph.model import PrunableGraph
from tests.models import cifar_resnet

IMAGES = torch.randn(2, 3, 16, 16, generator=torch.Generator().manual_seed(0))


class Concat(nn.Module):
    """Two branches side by side, split in halves, flattened."""

    def __init__(self) -> None:
        super().__init__()
        self.left, self.right = nn.Conv2d(3, 8, 3, padding=1), nn.Conv2d(3, 12, 3, padding=1)
        self.norm, self.mix = nn.BatchNorm2d(20), nn.Conv2d(20, 16, 3, stride=4)
        self.head = nn.Linear(256, 5)

    def forward(self, x: Tensor) -> Tensor:
        x = functional.relu(self.norm(torch.cat([self.left(x), self.right(x)], 1)))
        value, gate = self.mix(x).chunk(2, 1)
        return self.head(torch.flatten(torch.cat([value * gate.sigmoid(), value], 1), 1))


class Grouped(nn.Module):
    """Depthwise and grouped convolutions, GroupNorm, and a channel shuffle."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 16, 3, stride=2, padding=1)
        self.depthwise, self.norm = nn.Conv2d(16, 16, 3, groups=16, bias=False), nn.BatchNorm2d(16)
        self.grouped, self.scale, self.head = nn.Conv2d(16, 24, 1, groups=4), nn.GroupNorm(4, 24), nn.Linear(24, 5)

    def forward(self, x: Tensor) -> Tensor:
        x = self.scale(self.grouped(functional.relu6(self.norm(self.depthwise(self.stem(x))))))
        batch, channels, height, width = x.shape
        x = x.view(batch, 4, channels // 4, height, width).transpose(1, 2).reshape(batch, channels, height, width)
        return self.head(x.mean((2, 3)))


class Attention(nn.Module):
    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads, self.qkv, self.out = heads, nn.Linear(width, 3 * width), nn.Linear(width, width)

    def forward(self, x: Tensor) -> Tensor:
        batch, tokens, width = x.shape
        q, k, v = self.qkv(x).reshape(batch, tokens, 3, self.heads, -1).permute(2, 0, 3, 1, 4).unbind(0)
        y = functional.scaled_dot_product_attention(q, k, v)
        return self.out(y.transpose(1, 2).reshape(batch, tokens, width))


class VisionTransformer(nn.Module):
    """Patches, a class token, blocks of attention and MLP."""

    def __init__(self, width: int = 24, depth: int = 2) -> None:
        super().__init__()
        self.patch = nn.Conv2d(3, width, 8, 8)
        self.token, self.position = nn.Parameter(torch.randn(1, 1, width)), nn.Parameter(torch.randn(1, 5, width))
        self.attention = nn.ModuleList(nn.Sequential(nn.LayerNorm(width), Attention(width, 4)) for _ in range(depth))
        self.mlp = nn.ModuleList(
            nn.Sequential(nn.LayerNorm(width), nn.Linear(width, 48), nn.GELU(), nn.Linear(48, width))
            for _ in range(depth)
        )
        self.head = nn.Linear(width, 5)

    def forward(self, x: Tensor) -> Tensor:
        x = self.patch(x).flatten(2).transpose(1, 2)
        x = torch.cat([self.token.expand(x.shape[0], -1, -1), x], 1) + self.position
        for attention, mlp in zip(self.attention, self.mlp, strict=True):
            x = x + attention(x)
            x = x + mlp(x)
        return self.head(x[:, 0])


class Recurrent(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.rnn, self.head = nn.LSTM(16, 6, batch_first=True), nn.Linear(6, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.rnn(x[:, 0, :4])[0][:, -1])


def lively(model: nn.Module) -> nn.Module:
    """BatchNorm as after training: what is folded wrongly must show."""
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.uniform_(module.weight, 0.5, 1.5)
            nn.init.uniform_(module.bias, -0.5, 0.5)
            nn.init.uniform_(module.running_mean, -0.5, 0.5)
            nn.init.uniform_(module.running_var, 0.5, 1.5)
    return model.eval()


def error_of(path: Path, module: nn.Module, inputs: Tensor) -> float:
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    name = session.get_inputs()[0].name
    return parity(lambda arrays: session.run(None, {name: arrays[0]}), module, (inputs,))


def arithmetic(path: Path) -> list[object]:
    """Operators, attributes and all numbers of a model, without the names of constants."""
    graph = onnx.load(path).graph
    constants = {value.name: value.SerializeToString().replace(value.name.encode(), b"") for value in graph.initializer}
    return [
        (
            n.op_type,
            [constants.get(i, i) for i in n.input],
            list(n.output),
            [a.SerializeToString() for a in n.attribute],
        )
        for n in graph.node
    ]


def random_cut(graph: PrunableGraph, seed: int) -> nn.Module:
    chance = random.Random(seed)
    units = {group.id: chance.sample(range(group.size), chance.randint(1, group.size)) for group in graph.groups}
    return graph.cut({name: sorted(kept) for name, kept in units.items()}).eval()


@pytest.mark.filterwarnings("ignore:.*were assigned during export:UserWarning")  # of nn.LSTM, by torch.export
@pytest.mark.parametrize("kind", [lambda: cifar_resnet(20), Concat, Grouped, VisionTransformer, Recurrent])
def test_fast_is_fresh(kind, tmp_path: Path) -> None:
    torch.set_num_threads(1)
    torch.manual_seed(0)
    graph = PrunableGraph.capture(lively(kind()), (IMAGES,), prove=False)
    exporter = Exporter(graph, (IMAGES,), tmp_path / "work")
    assert exporter.refusal is None
    fast = exporter.export(random_cut(graph, 100), tmp_path / "fast.onnx")
    fresh = export_fresh(random_cut(graph, 100), (IMAGES,), tmp_path / "fresh.onnx")
    assert fast.size_bytes == fresh.size_bytes
    assert (fast.sha256 == fresh.sha256) or kind is Grouped  # whose constants are numbered differently by the exporter
    assert arithmetic(fast.path) == arithmetic(fresh.path)
    for seed in range(101, 106):
        module = random_cut(graph, seed)
        path = exporter.export(module, tmp_path / "fast.onnx").path
        assert error_of(path, module, torch.cat([IMAGES, IMAGES[:1]])) < 1e-4
        assert not onnx.load(path).graph.value_info
    assert exporter.export(graph.module().eval(), path).size_bytes > fast.size_bytes
    assert (exporter.fast, exporter.fresh) == (7, 0)
    assert not list((tmp_path / "work").iterdir())


class Perceptron(nn.Module):
    """One hidden layer."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.last = nn.Linear(6, 8), nn.Linear(8, 2)

    def forward(self, x: Tensor) -> Tensor:
        return self.last(functional.relu(self.first(x)))


def test_what_was_not_learned_is_exported_afresh(tmp_path: Path) -> None:
    torch.manual_seed(0)
    inputs = torch.randn(2, 6)
    graph = PrunableGraph.capture(Perceptron().eval(), (inputs,), prove=False)
    exporter = Exporter(graph, (inputs,), tmp_path)
    foreign = nn.Sequential(nn.Linear(6, 3), nn.Tanh()).eval()
    assert error_of(exporter.export(foreign, tmp_path / "foreign.onnx").path, foreign, inputs) < 1e-5
    other = PrunableGraph.capture(foreign, (inputs,), prove=False).module().eval()
    assert error_of(exporter.export(other, tmp_path / "other.onnx").path, other, inputs) < 1e-5
    assert (exporter.fast, exporter.fresh) == (0, 2)
    cut = random_cut(graph, 1)
    assert error_of(exporter.export(cut, tmp_path / "cut.onnx").path, cut, inputs) < 1e-5
    assert (exporter.fast, exporter.fresh) == (1, 2)


def test_a_template_that_computes_something_else_is_not_used(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fill = Template.fill

    def broken(self: Template, module: nn.Module) -> object:
        model = fill(self, module)
        bias = next(value for name, value in model.graph.initializers.items() if name.endswith("bias"))
        bias.const_value = onnx_ir.tensor(bias.const_value.numpy() + 1, name=bias.name)
        return model

    monkeypatch.setattr(Template, "fill", broken)
    inputs = torch.randn(2, 6)
    graph = PrunableGraph.capture(Perceptron().eval(), (inputs,), prove=False)
    exporter = Exporter(graph, (inputs,), tmp_path)
    assert "deviates" in (exporter.refusal or "")
    cut = random_cut(graph, 1)
    assert error_of(exporter.export(cut, tmp_path / "cut.onnx").path, cut, inputs) < 1e-5
    assert (exporter.fast, exporter.fresh) == (0, 1)
