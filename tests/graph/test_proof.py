"""Rules planted wrong: capture must drop what they break, keep the rest, and return only what is proven together."""

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from autoprune.errors import PruneError
from autoprune.graph.cutting import Cut
from autoprune.graph.model import PrunableGraph
from autoprune.graph.rules import REWRITES, RULES
from tests.graph.nets import IMAGE, TOKENS, Concat, OptionA, conv_bn


class Residual(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.stem, self.conv, self.last = conv_bn(3, 8), nn.Conv2d(8, 8, 1), nn.Conv2d(8, 6, 1)
        self.fc = nn.Linear(6, 10)

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        return self.fc(self.last(x + self.conv(x)).relu().mean((2, 3)))


def names(graph: PrunableGraph) -> set[str]:
    return {group.id for group in graph.groups}


def test_a_missed_coupling_costs_its_groups(monkeypatch):
    monkeypatch.setitem(RULES, "add", lambda analysis, node: list(analysis.axes(node.args[0])))
    assert names(PrunableGraph.capture(Residual(), (IMAGE,), prove=False)) == {"stem.0", "conv", "last"}
    graph = PrunableGraph.capture(Residual(), (IMAGE,))
    assert names(graph) == {"last"}
    assert {blocked.node for blocked in graph.blocked} == {"stem.0", "conv"}


def test_a_wrong_index_map_costs_its_groups(monkeypatch):
    """Left and right of the concatenation swapped: every cut runs, and computes something else."""
    right = RULES["cat"]

    def swapped(analysis, node):
        axes = right(analysis, node)
        return [axes[0], np.roll(axes[1], 6), *axes[2:]]

    monkeypatch.setitem(RULES, "cat", swapped)
    graph = PrunableGraph.capture(Concat(), (IMAGE,))
    assert names(graph) == {"merge.0"}
    assert all("deviates" in blocked.reason for blocked in graph.blocked)


def test_groups_that_hold_alone_but_not_together_are_not_both_returned(monkeypatch):
    def both(cut, old, new):
        parts = [cut.alive(part, 1) for part in old.args[0]]
        if not any(part.all() for part in parts):
            raise RuntimeError("both parts were cut")

    monkeypatch.setitem(REWRITES, "cat", both)
    graph = PrunableGraph.capture(Concat(), (IMAGE,))
    assert len(names(graph) & {"left.0", "right.0"}) == 1
    assert "merge.0" in names(graph)
    assert ["both parts were cut" in blocked.reason for blocked in graph.blocked] == [True]
    assert all(proof.holds for proof in graph.prove())
    graph.cut({group.id: [0] for group in graph.groups})


def test_an_inexact_group_must_stay_finite():
    class Undefined(nn.Module):
        """The standard deviation over what is left of 2 channels is not a number when 1 is left."""

        def __init__(self) -> None:
            super().__init__()
            self.first, self.last = nn.Linear(12, 2), nn.Linear(12, 8)
            self.fc = nn.Linear(8, 10)

        def forward(self, x: Tensor) -> Tensor:
            return self.fc(self.last(x).relu()) / (1 + self.first(x).std(-1, keepdim=True))

    graph = PrunableGraph.capture(Undefined(), (TOKENS,))
    assert names(graph) == {"last"}
    assert ["not finite" in blocked.reason for blocked in graph.blocked] == [True]


def test_what_is_left_never_empties_a_part_of_an_activation():
    class Part(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv, self.fc = nn.Conv2d(3, 8, 1), nn.Linear(8, 10)

        def forward(self, x: Tensor) -> Tensor:
            x = self.conv(x)
            return self.fc((x * x[:, 2:6].amax(1, keepdim=True)).mean((2, 3)))

    graph = PrunableGraph.capture(Part(), (IMAGE,))
    assert [group.size for group in graph.groups] == [4, 4]
    assert graph.cut({group.id: [3] for group in graph.groups}).eval()(IMAGE).shape == (2, 10)


def test_refuses_to_empty_an_activation():
    graph = PrunableGraph.capture(OptionA(), (IMAGE,), prove=False)
    nothing = np.zeros(len(graph._leaves), dtype=bool)
    with pytest.raises(PruneError, match=r"leaves a dimension of '.*' empty"):
        Cut(graph._captured, graph._analysis, nothing).build()


def test_fresh_norms_are_made_uneven_and_given_back():
    module = OptionA()
    torch.testing.assert_close(PrunableGraph.capture(module, (IMAGE,)).module().state_dict(), module.state_dict())
