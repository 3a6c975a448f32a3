"""MACs and parameters of many candidates at once are those of each by itself."""

import numpy as np
import pytest
import torch

from autoprune.graph.model import PrunableGraph
from tests.graph.nets import CASES


@pytest.mark.parametrize("name", CASES)
def test_they_are_those_of_each_candidate_by_itself(name: str) -> None:
    torch.manual_seed(0)
    make, example, _ = CASES[name]
    graph = PrunableGraph.capture(make().eval(), (example,), prove=False)
    rng = np.random.default_rng(0)
    units = np.array([[rng.integers(1, group.size + 1) for group in graph.groups] for _ in range(10)])
    each = [graph.macs({g.id: range(n) for g, n in zip(graph.groups, row, strict=True)}) for row in units]
    assert graph.macs_by_units()(units) == pytest.approx(each, rel=1e-9)
    each = [graph.parameters({g.id: range(n) for g, n in zip(graph.groups, row, strict=True)}) for row in units]
    assert graph.parameters_by_units()(units) == pytest.approx(each, rel=1e-9)


def test_a_dropped_branch_costs_nothing() -> None:
    make, example, _ = CASES["option_a"]
    graph = PrunableGraph.capture(make().eval(), (example,))
    for n, group in enumerate(graph.groups):
        if group.droppable:
            units = np.array([[g.size for g in graph.groups]])
            units[0, n] = 0
            assert graph.macs_by_units()(units)[0] == pytest.approx(graph.macs({group.id: ()}))
