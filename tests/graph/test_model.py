"""The captured model as a module: training, copying, naming, refusing."""

import copy
import subprocess
import sys
import time

import pytest
import torch
from torch import Tensor, nn

from autoprune.errors import CaptureError, PruneError
from autoprune.graph.model import PrunableGraph
from tests.graph.nets import IMAGE, TOKENS, Chain, OptionA, Recurrent, Words


@pytest.fixture(scope="module")
def eager() -> nn.Module:
    torch.manual_seed(0)
    return OptionA()


@pytest.fixture(scope="module")
def graph(eager: nn.Module) -> PrunableGraph:
    return PrunableGraph.capture(eager, (IMAGE,))


def _train(module: nn.Module, steps: int = 3) -> list[float]:
    torch.manual_seed(1)
    optimizer, losses = torch.optim.SGD(module.parameters(), lr=0.1), []
    module.train()
    for _ in range(steps):
        loss = module(torch.randn(4, 3, 8, 8)).square().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    return losses


def test_trains_as_the_eager_model_does(eager, graph):
    reference, ours = copy.deepcopy(eager), graph.module()
    assert _train(ours) == pytest.approx(_train(reference), rel=1e-4)
    for (name, expected), (own, actual) in zip(reference.state_dict().items(), ours.state_dict().items(), strict=True):
        assert name == own
        torch.testing.assert_close(actual, expected, atol=1e-4, rtol=1e-4)
    x = torch.randn(3, 3, 8, 8)
    torch.testing.assert_close(ours.eval()(x), reference.eval()(x), atol=1e-4, rtol=1e-4)


def test_dropout_follows_the_mode():
    net = PrunableGraph.capture(Chain(), (IMAGE,)).module()
    net.train()
    assert not torch.equal(net(IMAGE), net(IMAGE))
    net.eval()
    assert torch.equal(net(IMAGE), net(IMAGE))


def test_modes_reach_it_inside_another_module_and_one_norm_can_be_frozen(graph):
    net = graph.module()
    outer = nn.Sequential(net).train()
    net.get_submodule("stem.1").eval()
    before = copy.deepcopy(net.state_dict())
    outer(IMAGE)
    after = net.state_dict()
    assert torch.equal(before["stem.1.running_mean"], after["stem.1.running_mean"])
    assert not torch.equal(before["conv1.1.running_mean"], after["conv1.1.running_mean"])
    assert after["conv1.1.num_batches_tracked"] == 1
    outer.eval()(IMAGE)
    assert after["conv1.1.num_batches_tracked"] == 1


def test_a_deep_copy_is_independent(graph):
    net = graph.cut({"stem.0": [0, 3, 5]})
    twin = copy.deepcopy(net)
    _train(twin)
    assert not torch.equal(net.state_dict()["fc.weight"], twin.state_dict()["fc.weight"])
    torch.testing.assert_close(copy.deepcopy(net).eval()(IMAGE), net.eval()(IMAGE))


def test_a_cut_model_trains_and_exports_again(graph):
    net = graph.cut({"stem.0": [0, 3, 5], "conv1.0": [1]})
    losses = _train(net, 6)
    assert losses[-1] < losses[0]
    torch.testing.assert_close(torch.export.export(net.eval(), (IMAGE,)).module()(IMAGE), net(IMAGE))


def test_the_graph_is_a_snapshot(eager, graph):
    net = graph.module()
    _train(net)
    torch.testing.assert_close(graph.module().state_dict(), eager.state_dict())


def test_capture_leaves_the_users_modes_and_tensors(eager):
    before = copy.deepcopy(eager.state_dict())
    eager.train()
    eager.stem[1].eval()
    PrunableGraph.capture(eager, (IMAGE,))
    assert eager.training
    assert not eager.stem[1].training
    torch.testing.assert_close(eager.state_dict(), before)


def test_tied_weights_stay_tied():
    class Tied(Words):
        def __init__(self) -> None:
            super().__init__()
            self.head = nn.Linear(12, 20, bias=False)
            self.head.weight = self.table.weight

        def forward(self, words: Tensor) -> Tensor:
            return self.head(self.out(self.hidden(self.table(words)).relu()))

    words = torch.randint(0, 20, (2, 7))
    net = PrunableGraph.capture(Tied(), (words,)).cut({"table": [0, 1, 2]})
    assert net.get_parameter("table.weight") is net.get_parameter("head.weight")
    assert net.get_parameter("table.weight").shape == (20, 3)


def test_cuts_in_milliseconds(graph):
    start = time.perf_counter()
    for _ in range(5):
        graph.cut({"stem.0": [0, 1]})
    assert (time.perf_counter() - start) / 5 < 0.25


@pytest.mark.parametrize(
    ("keep", "words"),
    [
        ({"stem.9": [0]}, "no prune group 'stem.9'"),
        ({"stem.0": []}, "at least one of its 8 units"),
        ({"stem.0": [0, 8]}, "units 0 to 7"),
        ({"stem.0": [-1]}, "units 0 to 7"),
    ],
)
def test_refuses_impossible_cuts(graph, keep, words):
    with pytest.raises(PruneError, match=words):
        graph.cut(keep)


def test_says_what_export_refused():
    class Branching(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return x if x.sum() > 0 else -x

    with pytest.raises(CaptureError, match="cannot capture Branching"):
        PrunableGraph.capture(Branching(), (IMAGE,))


def test_unknown_operators_are_named():
    class Spectrum(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.a = nn.Linear(12, 16)

        def forward(self, x: Tensor) -> Tensor:
            return torch.fft.fft(self.a(x)).abs()

    graph = PrunableGraph.capture(Spectrum(), (TOKENS,))
    assert graph.groups == ()
    assert [(blocked.operator, "torch.fft.fft" in blocked.where) for blocked in graph.blocked] == [("fft_fft", True)]


def test_a_batch_of_one_becomes_dynamic():
    graph = PrunableGraph.capture(OptionA(), (IMAGE[:1],))
    assert graph.dynamic_batch
    assert graph.module().eval()(IMAGE[:1]).shape == (1, 10)


def test_a_fixed_batch_is_accepted_where_the_model_insists():
    class Fixed(Recurrent):
        def forward(self, x: Tensor) -> Tensor:
            return super().forward(x.reshape(2, 5, 12))

    graph = PrunableGraph.capture(Fixed(nn.GRU), (TOKENS,))
    assert not graph.dynamic_batch
    assert {group.id for group in graph.groups} == {"before", "rnn"}


def test_the_nouns_need_no_torch():
    code = "import sys, autoprune.graph; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
