"""Dropped branches in the exported graph: gone, at most an addition each is left, by the fast path too."""

import copy
from collections import Counter
from pathlib import Path

import numpy as np
import onnx
import onnx_ir
import onnxruntime
import pytest
import torch
from torch import Tensor, nn

from autoprune.compress import cut, quantize_onnx
from autoprune.export import Exporter, dropped, export_fresh
from autoprune.graph.model import PrunableGraph
from tests.export.test_fast import IMAGES, VisionTransformer, error_of, lively
from tests.graph.test_drop import Bottlenecks
from tests.models import cifar_resnet


def operators(path: Path) -> Counter[str]:
    return Counter(node.op_type for node in onnx.load(path).graph.node)


def captured(model: nn.Module) -> PrunableGraph:
    torch.manual_seed(0)
    return PrunableGraph.capture(lively(model), (IMAGES,), prove=False)


def all_dropped(graph: PrunableGraph) -> dict[str, tuple[int, ...]]:
    return {group.id: () for group in graph.groups if group.droppable}


@pytest.fixture(scope="module")
def resnet() -> PrunableGraph:
    return captured(cifar_resnet(8))


@pytest.fixture(scope="module")
def exporter(resnet: PrunableGraph, tmp_path_factory: pytest.TempPathFactory) -> Exporter:
    return Exporter(resnet, (IMAGES,), tmp_path_factory.mktemp("work"))


def test_fast_is_fresh_for_a_resnet(exporter: Exporter, resnet: PrunableGraph, tmp_path: Path) -> None:
    check_fast_is_fresh(exporter, resnet, tmp_path)


def test_fast_is_fresh_for_a_transformer(tmp_path: Path) -> None:
    graph = captured(VisionTransformer(depth=1))
    check_fast_is_fresh(Exporter(graph, (IMAGES,), tmp_path), graph, tmp_path)


def check_fast_is_fresh(exporter: Exporter, graph: PrunableGraph, tmp_path: Path) -> None:
    drops, before = all_dropped(graph), (exporter.fast, exporter.fresh)
    first, *_, last = drops
    cuts = [drops, {first: ()}, {last: (), graph.groups[0].id: (1, 2, 5)}]
    for keep in cuts:
        module = graph.cut(keep).eval()
        fast = exporter.export(module, tmp_path / "fast.onnx", keep=keep)
        assert error_of(fast.path, module, torch.cat([IMAGES, IMAGES[:1]])) < 1e-4
    assert (exporter.fast, exporter.fresh) == (before[0] + len(cuts), before[1])
    fresh = export_fresh(module, (IMAGES,), tmp_path / "fresh.onnx")
    assert operators(fast.path) == operators(fresh.path)
    assert abs(fast.size_bytes - fresh.size_bytes) < 0.001 * fresh.size_bytes


def test_an_addition_is_left_of_a_block(exporter: Exporter, resnet: PrunableGraph, tmp_path: Path) -> None:
    dense = operators(exporter.export(resnet.module().eval(), tmp_path / "dense.onnx").path)
    keep = all_dropped(resnet)
    assert len(keep) == 3
    path = exporter.export(resnet.cut(keep).eval(), tmp_path / "cut.onnx", keep=keep).path
    assert operators(path) == dense - Counter({"Conv": 6, "Relu": 3})
    assert not [value.name for value in onnx.load(path).graph.initializer if value.name.startswith("layer")]


def test_nothing_is_left_of_a_block_that_adds_nothing(
    exporter: Exporter, resnet: PrunableGraph, tmp_path: Path
) -> None:
    dense = operators(exporter.export(resnet.module().eval(), tmp_path / "dense.onnx").path)
    keep = {"layer1.0.conv1": (), "layer2.0.conv1": ()}  # the second one lies beside a shortcut that pads
    module = cut(resnet, keep)
    fast = exporter.export(module, tmp_path / "fast.onnx", keep=keep)
    fresh = export_fresh(module, (IMAGES,), tmp_path / "fresh.onnx")
    assert operators(fast.path) == operators(fresh.path) == dense - Counter({"Conv": 4, "Relu": 3, "Add": 2})
    for artifact in (fast, fresh):
        assert error_of(artifact.path, module, torch.cat([IMAGES, IMAGES[:1]])) < 1e-4


def test_nothing_is_left_of_the_branches_of_a_transformer(tmp_path: Path) -> None:
    graph = captured(VisionTransformer(depth=1))
    keep = all_dropped(graph)
    module = cut(graph, keep)
    path = Exporter(graph, (IMAGES,), tmp_path).export(module, tmp_path / "cut.onnx", keep=keep).path
    with_constants = export_fresh(graph.cut(keep).eval(), (IMAGES,), tmp_path / "constants.onnx").path
    assert operators(with_constants) - operators(path) == Counter({"Add": 2})
    assert error_of(path, module, torch.cat([IMAGES, IMAGES[:1]])) < 1e-4


def test_an_addition_of_zeros_that_widens_stays(tmp_path: Path) -> None:
    class Widening(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv, self.zeros = nn.Conv2d(3, 1, 1), nn.Parameter(torch.zeros(1, 4, 1, 1))

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return (self.conv(x).relu().relu() + self.zeros).tanh()

    artifact = export_fresh(Widening().eval(), (IMAGES,), tmp_path / "model.onnx")
    assert operators(artifact.path) == Counter({"Conv": 1, "Relu": 1, "Add": 1, "Tanh": 1})


def test_a_dropped_branch_can_be_quantised(resnet: PrunableGraph, tmp_path: Path) -> None:
    keep = all_dropped(resnet)
    module = resnet.cut(keep).eval()
    path = export_fresh(module, (IMAGES,), tmp_path / "cut.onnx").path
    quantize_onnx(path, tmp_path / "int8.onnx", [(IMAGES.numpy(),)], reduce_range=True)
    session = onnxruntime.InferenceSession(tmp_path / "int8.onnx", providers=["CPUExecutionProvider"])
    (found,) = session.run(None, {session.get_inputs()[0].name: IMAGES.numpy()})
    with torch.no_grad():
        expected = module(IMAGES).numpy()
    assert np.abs(found - expected).max() < 0.1 * np.ptp(expected)


def test_without_the_cut_it_is_exported_afresh(exporter: Exporter, resnet: PrunableGraph, tmp_path: Path) -> None:
    module, before = resnet.cut({"layer1.0.conv1": ()}).eval(), exporter.fresh
    assert error_of(exporter.export(module, tmp_path / "cut.onnx").path, module, IMAGES) < 1e-4
    assert exporter.fresh == before + 1


def test_a_constant_that_is_reshaped_to_the_batch_is_exported_afresh(tmp_path: Path) -> None:
    graph = captured(Bottlenecks(True))
    exporter = Exporter(graph, (IMAGES,), tmp_path)
    assert exporter.refusal is None
    for fresh, keep in ((0, {"left.0.0": ()}), (1, {"squeeze.down": ()})):
        module = graph.cut(keep).eval()
        path = exporter.export(module, tmp_path / "cut.onnx", keep=keep).path
        assert error_of(path, module, torch.cat([IMAGES, IMAGES[:1]])) < 1e-4
        assert exporter.fresh == fresh


def test_constants_put_in_wrongly_are_not_used(
    exporter: Exporter, resnet: PrunableGraph, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    put = dropped._replace

    def broken(graph: onnx_ir.Graph, weight: str, value: Tensor) -> None:
        put(graph, weight, value)
        silent = graph.initializers[f"{weight}:dropped"]
        silent.const_value = onnx_ir.tensor(silent.const_value.numpy() + 1, name=silent.name)

    monkeypatch.setattr(dropped, "_replace", broken)
    wary = copy.copy(exporter)
    wary.__dict__.pop("_drop_refusal", None)
    keep, before = {"layer1.0.conv1": ()}, wary.fresh
    module = resnet.cut(keep).eval()
    assert error_of(wary.export(module, tmp_path / "cut.onnx", keep=keep).path, module, IMAGES) < 1e-4
    assert wary.fresh == before + 1
    assert wary.refusal is None
