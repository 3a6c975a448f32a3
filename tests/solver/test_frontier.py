"""The frontier of one resource: what its docstring guarantees."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from autoprune.solver import Frontier, Problem, cheapest_at, solve
from tests.solver.instances import brute_force, budgets_at, highs, random_problem, small_problems, within

RESOLUTIONS = st.sampled_from([1, 7, 64, 16384])


@given(small_problems(resources=1), st.integers(-12, 12), RESOLUTIONS)
def test_tiny_problems(problem: Problem, total: int, resolution: int) -> None:
    budgets = {"latency_ms": total / 4}
    frontier = Frontier.of(problem, resolution=resolution)
    choice, best = frontier.at(total / 4), brute_force(problem, budgets)
    if choice is None or best is None:
        assert choice is best
        return
    assert within(problem, choice, budgets)
    assert choice.bound - 1e-9 <= best <= choice.cost
    if resolution == 16384:
        assert choice.cost == pytest.approx(best)


@given(st.integers(0, 10_000), st.booleans(), st.floats(0.0, 1.0), RESOLUTIONS)
def test_never_worse_than_the_optimum_of_a_tightened_budget(
    seed: int, monotone: bool, share: float, resolution: int
) -> None:
    problem = random_problem(seed, groups=10, levels=6, monotone=monotone)
    budgets = budgets_at(problem, [share])
    frontier = Frontier.of(problem, resolution=resolution)
    choice, best = frontier.at(budgets["latency_ms"]), highs(problem, budgets)
    tightened = highs(problem, {"latency_ms": budgets["latency_ms"] - 10 * frontier.step})
    assert choice is not None
    assert best is not None
    assert within(problem, choice, budgets)
    assert choice.bound - 1e-6 <= best <= choice.cost + 1e-6
    assert tightened is None or choice.cost <= tightened + 1e-6


@given(st.integers(0, 10_000), st.lists(st.floats(-0.1, 1.1), min_size=2, max_size=9), RESOLUTIONS)
def test_a_larger_budget_never_costs_more(seed: int, shares: list[float], resolution: int) -> None:
    problem = random_problem(seed, groups=10, levels=6)
    frontier = Frontier.of(problem, resolution=resolution)
    found = [frontier.at(budgets_at(problem, [share])["latency_ms"]) for share in sorted(shares)]
    costs = [choice.cost if choice else np.inf for choice in found]
    assert costs == sorted(costs, reverse=True)


@given(st.integers(0, 10_000), RESOLUTIONS)
def test_the_choices_are_the_answers(seed: int, resolution: int) -> None:
    frontier = Frontier.of(random_problem(seed, groups=6, levels=5), resolution=resolution)
    choices = [frontier.problem.choice(row) for row in frontier.levels()]
    spends, costs = [choice.spends["latency_ms"] for choice in choices], [choice.cost for choice in choices]
    assert spends == sorted(set(spends))
    assert costs == sorted(set(costs), reverse=True)
    assert spends[0] == pytest.approx(frontier.problem.least[0])
    assert costs[-1] == pytest.approx(sum(row.min() for row in frontier.problem.costs))
    for choice in choices[:: max(1, len(choices) // 5)]:
        assert frontier.at(choice.spends["latency_ms"]).levels == choice.levels


def test_all_groups_of_a_real_model_near_the_optimum() -> None:
    problem = random_problem(5, groups=100, levels=16)
    frontier = Frontier.of(problem)
    for share in (0.2, 0.4, 0.6, 0.8):
        budgets = budgets_at(problem, [share])
        assert frontier.at(budgets["latency_ms"]).cost <= 1.01 * solve(problem, budgets).cost


def test_the_cheapest_scenario() -> None:
    costs = [np.array([1.0, 0.0])]
    fast = Problem(costs, {"ms": [np.array([0.0, 1.0])]}, 0.5, {"ms": 1.0})
    slow = Problem(costs, {"ms": [np.array([0.0, 2.0])]}, 0.0, {"ms": 2.0})
    frontiers = {name: Frontier.of(problem) for name, problem in {"int8": fast, "fp32": slow}.items()}
    assert cheapest_at(frontiers, 0.9) is None
    assert {ms: cheapest_at(frontiers, ms)[0] for ms in (1.0, 2.0, 4.0)} == {1.0: "int8", 2.0: "int8", 4.0: "fp32"}
    assert cheapest_at(frontiers, 4.0)[1] == slow.choice((1,), bound=0.0)


def test_what_makes_no_frontier_is_refused() -> None:
    with pytest.raises(ValueError, match="one resource"):
        Frontier.of(random_problem(0, groups=2, levels=2, resources=2))
    with pytest.raises(ValueError, match="positive resolution"):
        Frontier.of(random_problem(0, groups=2, levels=2), resolution=0)
