"""Each coupling pattern: the groups it must have, and that every one of them can really be cut."""

import pytest
import torch

from autoprune.graph.cost import count_macs, count_parameters
from autoprune.graph.model import PrunableGraph
from autoprune.graph.proof import half
from tests.graph.nets import CASES


@pytest.fixture(scope="module", params=CASES)
def case(request: pytest.FixtureRequest) -> tuple[torch.nn.Module, PrunableGraph, dict[str, int]]:
    torch.manual_seed(0)
    make, example, groups = CASES[request.param]
    module = make().eval()
    return module, PrunableGraph.capture(module, (example,)), groups


def test_finds_the_groups(case):
    _, graph, groups = case
    assert {group.id: group.size for group in graph.groups} == groups


def test_every_group_is_proven(case):
    _, graph, _ = case
    assert [proof.failure for proof in graph.prove()] == [None] * len(graph.groups)


def test_the_dense_copy_computes_the_same(case):
    module, graph, _ = case
    torch.testing.assert_close(graph.module().eval()(*graph.example_inputs), module(*graph.example_inputs))


def test_the_cut_is_smaller_as_announced(case):
    _, graph, _ = case
    keep = {group.id: half(group) for group in graph.groups}
    cut = graph.cut(keep)
    assert count_parameters(cut) == graph.parameters(keep) < graph.parameters()
    assert graph.macs(keep) < graph.macs()


def test_macs_agree_with_the_flop_counter(case):
    module, graph, _ = case
    batch = graph.example_inputs[0].shape[0]
    counted = count_macs(graph.module(), graph.example_inputs)
    if not any(isinstance(child, torch.nn.RNNBase) for child in module.modules()):
        assert graph.macs() * batch == pytest.approx(counted, rel=0.01)
