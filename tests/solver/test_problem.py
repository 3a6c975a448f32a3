"""Problems that are refused, sums, transforms."""

from typing import Any

import numpy as np
import pytest

from autoprune.solver import Choice, Problem

GOOD: dict[str, Any] = {"costs": [[0.0, 4.0], [1.0]], "spends": {"ms": [[2.0, -1.0], [0.5]]}}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"costs": [[0.0, -1.0], [1.0]]}, "costs of group 0 are negative at level 1"),
        ({"costs": [[0.0, np.nan], [1.0]]}, "costs of group 0"),
        ({"costs": [[0.0, 1.0], []]}, "costs of group 1"),
        ({"costs": [[[0.0]], [1.0]]}, "costs of group 0"),
        ({"spends": {"ms": [[2.0, np.inf], [0.5]]}}, "spends of 'ms' of group 0"),
        ({"spends": {"ms": [[2.0], [0.5]]}}, r"\[1, 1\] levels by group, but the costs have \[2, 1\]"),
        ({"spends": {"ms": [[2.0, 1.0]]}}, r"\[2\] levels by group"),
        ({"base_cost": -0.5}, "base cost is -0.5"),
        ({"base_spends": {"bytes": 1.0}}, "base spend of 'bytes'"),
        ({"base_spends": {"ms": np.inf}}, "base spend of 'ms' is inf"),
    ],
)
def test_tables_that_do_not_fit_are_refused(change: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Problem(**GOOD | change)


def test_a_choice_is_summed_up() -> None:
    problem = Problem(**GOOD, base_cost=0.25, base_spends={"ms": 10.0})
    assert problem.choice([1, 0]) == Choice((1, 0), 5.25, {"ms": 9.5})
    with pytest.raises(ValueError, match="1 levels were given for 2 groups"):
        problem.choice([0])
    with pytest.raises(ValueError, match="Group 1 has no level 1"):
        problem.choice([0, 1])
    with pytest.raises(ValueError, match="Group 0 has no level -1"):
        problem.choice([-1, 0])


def test_tables_are_copies_that_cannot_be_changed() -> None:
    costs = np.array([0.0, 1.0])
    problem = Problem([costs], {"ms": [np.array([1.0, 0.0])]})
    costs[0] = 9.0
    assert problem.choice([0]).cost == 0.0
    with pytest.raises(ValueError, match="read-only"):
        problem.costs[0][0] = 9.0


def test_costs_are_transformed() -> None:
    problem = Problem(**GOOD, base_cost=9.0, base_spends={"ms": 10.0})
    changed = problem.transformed(power=0.5, coefficients=[3.0, 0.0])
    assert [row.tolist() for row in changed.costs] == [[0.0, 6.0], [0.0]]
    assert changed.base_cost == 3.0
    assert changed.choice([1, 0]).spends == problem.choice([1, 0]).spends
    for wrong in ({"power": 0.0}, {"coefficients": [1.0]}, {"coefficients": [1.0, -1.0]}):
        with pytest.raises(ValueError, match="transformed by"):
            problem.transformed(**wrong)
