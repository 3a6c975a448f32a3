"""MACs and parameters of many candidates at once are those of each by itself."""

import numpy as np
import pytest
import torch

from autoprune.graph.model import PrunableGraph
from autoprune.graph.products import Products
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


def test_padding_counts_a_part_of_what_a_width_lacks_to_a_tile() -> None:
    product = Products.of([[(0.0, (1.0, 0.0)), (0.0, (0.0, 1.0)), (3.0, (0.0, 0.0))]], 2)
    units = np.array([[65, 10], [64, 128], [0, 10]])
    assert product(units, 0.5) == pytest.approx([3 * (65 + 63 / 2) * (10 + 54 / 2), 3 * 64 * 128, 0])
    assert product(units, 1.0) == pytest.approx([3 * 128 * 64, 3 * 64 * 128, 0])


def test_a_part_of_a_width_is_not_padded() -> None:
    heads_and_dimensions = Products.of([[(96.0, (0.0, 0.0)), (0.0, (1 / 8, 0.0)), (0.0, (0.0, 1 / 12))]], 2)
    assert (
        heads_and_dimensions(np.array([[4, 6]]), 0.5) == heads_and_dimensions(np.array([[4, 6]])) == pytest.approx([24])
    )
