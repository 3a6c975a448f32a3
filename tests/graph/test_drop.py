"""Residual branches dropped: which can be, what is left of the model, and that it computes what it should."""

from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from autoprune.errors import PruneError
from autoprune.graph import constants
from autoprune.graph.cost import count_macs, count_parameters
from autoprune.graph.cutting import Cut
from autoprune.graph.model import PrunableGraph
from autoprune.tasks.nets.resnet_cifar import cifar_resnet
from tests.graph.nets import Attention, Chain, Concat, Grouped, Heads, OptionA, conv_bn

IMAGE = torch.randn(2, 3, 8, 8, generator=torch.Generator().manual_seed(0))
TOKENS = torch.randn(2, 5, 16, generator=torch.Generator().manual_seed(0))


class Squeeze(nn.Module):
    """Hu et al. 2018, with views as in their code, or with convolutions."""

    def __init__(self, width: int, views: bool) -> None:
        super().__init__()
        self.views = views
        self.fc1, self.fc2 = nn.Conv2d(width, 5, 1), nn.Conv2d(5, width, 1)
        self.down, self.up = nn.Linear(width, 5), nn.Linear(5, width)

    def forward(self, x: Tensor) -> Tensor:
        if not self.views:
            return x * self.fc2(self.fc1(x.mean((2, 3), keepdim=True)).relu()).sigmoid()
        y = F.adaptive_avg_pool2d(x, 1).view(x.shape[0], x.shape[1])
        return x * self.up(self.down(y).relu_()).sigmoid().view(x.shape[0], x.shape[1], 1, 1).expand_as(x)


class Bottlenecks(nn.Module):
    """In place wherever it can be; the branches of the first block have no shortcut to bring a shape back."""

    def __init__(self, views: bool) -> None:
        super().__init__()
        self.stem, self.narrow = conv_bn(3, 8), conv_bn(8, 6)
        self.left = nn.Sequential(conv_bn(8, 7), nn.Conv2d(7, 8, 1))
        self.right = nn.Sequential(conv_bn(8, 9), nn.Conv2d(9, 8, 1))
        self.wide, self.last = nn.Conv2d(6, 10, 3, padding=1), nn.Conv2d(10, 8, 1, bias=False)
        self.norm, self.squeeze = nn.BatchNorm2d(8), Squeeze(8, views)
        self.fc = nn.Linear(8, 10)

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        x = self.left(x) + self.right(x)
        y = self.squeeze(self.norm(self.last(self.wide(self.narrow(x)).relu_())))
        y += x
        return self.fc(y.relu_().mean((2, 3)))


class ConvNext(nn.Module):
    """Channels last inside the branch, scaled, and a linear bottleneck without a bias."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.depthwise = nn.Conv2d(3, 8, 4, 4), nn.Conv2d(8, 8, 3, padding=1, groups=8)
        self.norm, self.up, self.down = nn.LayerNorm(8), nn.Linear(8, 24), nn.Linear(24, 8, bias=False)
        self.scale, self.shift, self.fc = nn.Parameter(torch.ones(8)), nn.Parameter(torch.ones(8)), nn.Linear(8, 10)

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        y = self.norm(self.depthwise(x).permute(0, 2, 3, 1))
        y = self.scale * (self.down(F.gelu(self.up(y))) + self.shift)
        return self.fc((x + F.dropout(y.permute(0, 3, 1, 2), 0.5, self.training)).mean((2, 3)))


class PostNorm(nn.Module):
    """Swin v2 normalises the branch; the position is what an input cannot change."""

    def __init__(self) -> None:
        super().__init__()
        self.embed, self.position = nn.Linear(16, 16), nn.Parameter(torch.randn(5, 16))
        self.up, self.down, self.norm = nn.Linear(16, 20), nn.Linear(20, 16), nn.LayerNorm(16)
        self.first, self.second, self.head = nn.Linear(16, 6), nn.Linear(6, 16), nn.Linear(16, 3)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        x = self.embed(x) + self.position
        return self.head(x + self.norm(self.down(self.up(x).relu()))), self.second(self.first(x)) + self.position


CASES: dict[str, tuple[Callable[[], nn.Module], Tensor, set[str]]] = {
    "resnet20": (lambda: cifar_resnet(20), IMAGE, {f"layer{s}.{b}.conv1" for s in (1, 2, 3) for b in (0, 1, 2)}),
    "option_a": (OptionA, IMAGE, {"conv1.0"}),
    "chain": (Chain, IMAGE, set()),
    "concat": (Concat, IMAGE, set()),
    "grouped": (Grouped, IMAGE, set()),
    "attention": (Attention, IMAGE, {"qkv", "qkv#2", "mlp.1"}),
    "heads": (Heads, TOKENS, {"layer.self_attn", "layer.self_attn#2", "layer.linear1"}),
    "squeeze": (lambda: Bottlenecks(False), IMAGE, {"left.0.0", "wide", "squeeze.fc1"}),
    "squeeze_views": (lambda: Bottlenecks(True), IMAGE, {"left.0.0", "wide", "squeeze.down"}),
    "convnext": (ConvNext, IMAGE, {"up"}),
    "post_norm": (PostNorm, TOKENS, {"up"}),
}


def lively(model: nn.Module) -> nn.Module:
    """BatchNorm as after training: a constant lost must show."""
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            for tensor in (module.weight, module.bias, module.running_mean, module.running_var):
                nn.init.uniform_(tensor, 0.5, 1.5)
    return model.eval()


@pytest.fixture(scope="module", params=CASES)
def case(request: pytest.FixtureRequest) -> tuple[PrunableGraph, Tensor, set[str]]:
    make, inputs, expected = CASES[request.param]
    torch.manual_seed(0)
    return PrunableGraph.capture(lively(make()), (inputs,)), inputs, expected


def test_what_can_be_dropped(case):
    graph, _, expected = case
    assert {group.id for group in graph.groups if group.droppable} == expected
    assert [proof.failure for proof in graph.prove()] == [None] * len(graph.groups)


def outputs(model: nn.Module, inputs: Tensor) -> list[Tensor]:
    with torch.no_grad():
        found = model.eval()(inputs)
    return list(found) if isinstance(found, tuple) else [found]


@settings(max_examples=6, deadline=None)
@given(data=st.data())
def test_any_drop_computes_what_the_zeroed_model_does(case, data):
    graph, inputs, droppable = case
    dropped = data.draw(st.sets(st.sampled_from(sorted(droppable)))) if droppable else set()
    keep: dict[str, list[int]] = {name: [] for name in dropped}
    for group in graph.groups:
        if group.exact and group.id not in dropped:
            keep[group.id] = sorted(data.draw(st.sets(st.integers(0, group.size - 1), min_size=1)))
    cut, zeroed, three = graph.cut(keep), graph.zeroed(keep), torch.cat([inputs, inputs[:1]])
    for actual, expected in zip(outputs(cut, three), outputs(zeroed, three), strict=True):
        torch.testing.assert_close(actual, expected, atol=1e-4, rtol=1e-4)
    assert graph.parameters(keep) == count_parameters(cut)
    assert graph.macs(keep) == count_macs(cut, (inputs[:1],))


def test_what_is_dropped_is_gone_and_the_rest_trains(case):
    graph, inputs, droppable = case
    if not droppable:
        return
    net = graph.cut(dict.fromkeys(droppable, ()))
    dense = graph.module().state_dict()
    assert all(value.numel() for value in net.state_dict().values())
    assert not {name for name in net.state_dict() if name not in dense}
    before = {name: value.clone() for name, value in net.state_dict().items()}
    optimizer = torch.optim.SGD(net.train().parameters(), lr=0.1)
    for _ in range(2):
        found = net(inputs)
        loss = sum(value.square().mean() for value in (found if isinstance(found, tuple) else (found,)))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert loss.isfinite()
    used = [parameter for parameter in net.parameters() if parameter.requires_grad]
    assert all(parameter.grad is not None for parameter in used)
    assert any(not torch.equal(value, before[name]) for name, value in net.state_dict().items())


@pytest.fixture(scope="module")
def resnet() -> PrunableGraph:
    torch.manual_seed(0)
    return PrunableGraph.capture(lively(cifar_resnet(14)), (IMAGE,))


def test_a_block_leaves_its_last_norm(resnet):
    net = resnet.cut({"layer2.1.conv1": ()})
    gone = set(resnet.module().state_dict()) - set(net.state_dict())
    inner = {f"layer2.1.bn1.{n}" for n in ("weight", "bias", "running_mean", "running_var", "num_batches_tracked")}
    assert gone == inner | {"layer2.1.conv1.weight", "layer2.1.conv2.weight"}
    running = net.get_buffer("layer2.1.bn2.running_mean").clone()
    net.train()(IMAGE)
    assert torch.equal(net.get_buffer("layer2.1.bn2.running_mean"), running)
    assert net.get_buffer("layer2.1.bn2.num_batches_tracked") == 0


def test_a_group_that_must_not_be_dropped_is_refused(resnet):
    with pytest.raises(PruneError, match="'conv1' is empty, and it cannot be dropped: at least one of its 16"):
        resnet.cut({"conv1": []})


def test_a_bias_is_not_changed_in_place():
    torch.manual_seed(0)
    graph = PrunableGraph.capture(lively(Bottlenecks(True)), (IMAGE,))
    net = graph.cut({"squeeze.down": [], "left.0.0": []})
    before = {name: value.clone() for name, value in net.state_dict().items()}
    outputs(net, IMAGE)
    assert all(torch.equal(value, before[name]) for name, value in net.state_dict().items())


def test_a_drop_that_computes_something_else_is_not_offered(monkeypatch):
    right = Cut._constant

    def wrong(cut, old, copies):
        node = right(cut, old, copies)
        if "layer2.1" not in node.args[2]:
            return node
        return cut.graph.call_function(torch.ops.aten.add.Scalar, (node, 1.0))

    monkeypatch.setattr(Cut, "_constant", wrong)
    graph = PrunableGraph.capture(lively(cifar_resnet(14)), (IMAGE,))
    inner = {group.id for group in graph.groups if group.id.startswith("layer") and group.id.endswith("conv1")}
    assert {group.id for group in graph.groups if group.droppable} == inner - {"layer2.1.conv1"}
    assert graph.blocked == ()


def test_of_two_branches_without_a_shortcut_the_analysis_alone_offers_one():
    graph = PrunableGraph.capture(Bottlenecks(False), (IMAGE,), prove=False)
    assert {group.id for group in graph.groups if group.droppable} == CASES["squeeze"][2]


class Nested(nn.Module):
    """A residual branch with another one inside."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.outer, self.last, self.fc = (
            nn.Linear(16, 12),
            nn.Linear(12, 8),
            nn.Linear(8, 12),
            nn.Linear(12, 3),
        )
        self.inner = nn.Sequential(nn.Linear(8, 6), nn.ReLU(), nn.Linear(6, 8))

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        y = self.outer(x).relu()
        return self.fc(x + self.last(y + self.inner(y)))


@pytest.mark.parametrize("layer", ["inner.2", "last"])
def test_a_drop_inside_a_branch_that_is_dropped_too_is_proven(monkeypatch, layer):
    right = Cut._constant
    graph = PrunableGraph.capture(Nested(), (TOKENS,))
    assert {group.id for group in graph.groups if group.droppable} == {"outer", "inner.0"}

    def wrong(cut, old, copies):
        node = right(cut, old, copies)
        return cut.graph.call_function(torch.ops.aten.neg.default, (node,)) if layer in node.args[2] else node

    monkeypatch.setattr(Cut, "_constant", wrong)
    graph = PrunableGraph.capture(Nested(), (TOKENS,))
    left = {"inner.2": "outer", "last": "inner.0"}[layer]
    assert {group.id for group in graph.groups if group.droppable} == {left}


def test_an_operator_that_cannot_do_with_a_constant_is_no_place_to_drop(monkeypatch):
    monkeypatch.delitem(constants._SINGLE, "batch_norm")
    graph = PrunableGraph.capture(lively(cifar_resnet(14)), (IMAGE,))
    assert not any(group.droppable for group in graph.groups)


def test_a_fixed_batch_does_not_make_an_output_that_ignores_the_input():
    class Fixed(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.first, self.second, self.fc = nn.Linear(16, 6), nn.Linear(6, 16), nn.Linear(16, 4)

        def forward(self, x: Tensor) -> Tensor:
            return self.fc(self.second(self.first(x.reshape(1, 16)).relu()))

    graph = PrunableGraph.capture(Fixed(), (torch.randn(1, 16),))
    assert not graph.dynamic_batch
    assert not any(group.droppable for group in graph.groups)
