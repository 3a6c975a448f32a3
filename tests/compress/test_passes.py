"""A pass that begins where a cut model begins to differ gives what a whole one gives."""

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from autoprune.compress.interpret import Interpreter
from autoprune.compress.passes import Passes, alike
from autoprune.graph.model import PrunableGraph

INPUTS = torch.randn(6, 3, 8, 8, generator=torch.Generator().manual_seed(0))


class Block(nn.Module):
    """(N, 8, H, W) -> the same; ``in_place`` writes to what the last convolution gives, ``on_stream`` to the stream."""

    def __init__(self, *, in_place: bool = False, on_stream: bool = False) -> None:
        super().__init__()
        self.one, self.two = nn.Conv2d(8, 6, 3, padding=1), nn.Conv2d(6, 8, 3, padding=1)
        self.in_place, self.on_stream = in_place, on_stream

    def forward(self, x: Tensor) -> Tensor:
        y = self.two(functional.relu(self.one(x), inplace=self.in_place))
        if self.on_stream:
            return x.add_(y)
        y = y.add_(x) if self.in_place else y + x
        return functional.relu(y, inplace=self.in_place)


class Net(nn.Module):
    """A stem, three blocks, and a head that splits its input and views it in the size of the batch."""

    def __init__(self, **how: bool) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.stem, self.head = nn.Conv2d(3, 8, 3), nn.Linear(8, 4)
        self.blocks = nn.Sequential(*(Block(**how) for _ in range(3)))

    def forward(self, x: Tensor) -> Tensor:
        first, second = self.blocks(self.stem(x)).mean((2, 3)).split(4, 1)
        return self.head(torch.cat((first, second), 1)).reshape(x.shape[0], 2, 2)


class Counting(Interpreter):
    """Counts the convolutions that it runs."""

    convolutions = 0

    def run_node(self, n: torch.fx.Node) -> object:
        self.convolutions += "conv2d" in str(n.target)
        return super().run_node(n)


@pytest.fixture(params=[{}, {"in_place": True}, {"on_stream": True}], ids=["new", "in place", "on the stream"])
def how(request: pytest.FixtureRequest) -> dict[str, bool]:
    return dict(request.param)


def test_passes_give_what_whole_passes_give(how: dict[str, bool]) -> None:
    graph = PrunableGraph.capture(Net(**how).eval(), (INPUTS[:2],), prove=False)
    passes = Passes(graph.module().eval(), (INPUTS,))
    inner = [group.id for group in graph.groups if "one" in group.id]
    assert len(inner) == 3
    counts = []
    for name in inner:
        for units in (5, 3, 4):
            model = graph.cut({name: tuple(range(units))}).eval()
            with torch.no_grad():
                run = Counting(model)
                found, whole = passes.run(run), model(INPUTS)
            assert torch.equal(found, whole)
            counts.append(run.convolutions)
    whole = 7  # of the stem and of three blocks
    new = [whole, 6, 6, whole, 4, 4, whole, 2, 2]
    assert counts == (new if not how.get("on_stream") else [whole] * 9), "what writes to the stream is not begun late"


def test_what_stands_in_for_a_node_is_run() -> None:
    graph = PrunableGraph.capture(Net().eval(), (INPUTS[:2],), prove=False)
    dense = graph.module().eval()
    passes = Passes(dense, (INPUTS,))
    last = graph.cut({[group.id for group in graph.groups if "one" in group.id][-1]: (0, 1)}).eval()
    conv = next(node.name for node in dense.graph.nodes if "conv2d" in str(node.target))
    with torch.no_grad():
        before = passes.run(Interpreter(last))
        run = Interpreter(last, {conv: lambda x, *_: torch.zeros(len(x), 8, 6, 6)})
        assert not torch.equal(passes.run(run), before)


def test_only_what_computes_the_same_from_the_same_is_alike() -> None:
    graph = PrunableGraph.capture(Net().eval(), (INPUTS[:2],), prove=False)
    dense, changed = graph.module().eval(), graph.module().eval()
    everything = alike(dense, dense, ())
    assert sum("conv2d" in str(node.target) for node in everything) == 7
    with torch.no_grad():
        changed.get_parameter("blocks.1.two.bias").add_(1)
    assert sum("conv2d" in str(node.target) for node in alike(changed, dense, ())) == 4


class Beside(nn.Module):
    """What is written in place is computed before what may be cut."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.stem, self.main, self.one, self.two = (
            nn.Conv2d(n, m, 3, padding=1) for n, m in ((3, 8), (8, 8), (8, 6), (6, 8))
        )

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        return self.main(x).add_(self.two(self.one(x))).mean((2, 3))


def test_what_is_kept_is_not_written_to() -> None:
    graph = PrunableGraph.capture(Beside().eval(), (INPUTS[:2],), prove=False)
    passes = Passes(graph.module().eval(), (INPUTS,))
    (name,) = (group.id for group in graph.groups if "one" in group.id)
    for units in (5, 4, 3, 2):
        model = graph.cut({name: tuple(range(units))}).eval()
        with torch.no_grad():
            run = Counting(model)
            assert torch.equal(passes.run(run), model(INPUTS))
    assert run.convolutions == 2
