"""`solve` and `solve_scenarios` against HiGHS and brute force."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from autoprune.errors import SearchError
from autoprune.solver import Frontier, Problem, cheapest_at, solve, solve_scenarios
from tests.solver.instances import brute_force, budgets_at, highs, random_problem, small_problems, within

SHARES = st.lists(st.floats(0.0, 1.0), min_size=3, max_size=3)


@given(small_problems(), st.lists(st.integers(-12, 12), min_size=3, max_size=3), st.sampled_from([1, 3, 2048]))
def test_brute_force_agrees_on_tiny_problems(problem: Problem, totals: list[int], width: int) -> None:
    budgets = {name: total / 4 for name, total in zip(problem.resources, totals, strict=False)}
    best = brute_force(problem, budgets)
    try:
        choice = solve(problem, budgets, width=width)
    except SearchError:
        assert width < 2048
        return
    if choice is None or best is None:
        assert choice is best
        return
    assert within(problem, choice, budgets)
    assert choice.bound - 1e-6 <= best <= choice.cost
    if width == 2048:
        assert choice.cost == choice.bound == pytest.approx(best)


@given(st.integers(0, 10_000), st.integers(1, 3), st.booleans(), SHARES)
def test_highs_agrees(seed: int, resources: int, monotone: bool, shares: list[float]) -> None:
    problem = random_problem(seed, groups=12, levels=6, resources=resources, monotone=monotone)
    budgets = budgets_at(problem, [0.1 + 0.9 * share for share in shares[:resources]])
    best, choice = highs(problem, budgets), solve(problem, budgets)
    if best is None:
        assert choice is None
        return
    assert choice is not None
    assert within(problem, choice, budgets)
    assert choice.cost == choice.bound == pytest.approx(best, abs=1e-6)


@pytest.mark.parametrize(("groups", "levels", "resources"), [(100, 16, 1), (30, 8, 3)])
def test_highs_agrees_on_problems_of_real_size(groups: int, levels: int, resources: int) -> None:
    problem = random_problem(3, groups=groups, levels=levels, resources=resources)
    budgets = budgets_at(problem, [0.4, 0.5, 0.6][:resources])
    best, choice = highs(problem, budgets), solve(problem, budgets)
    assert choice is not None
    assert best is not None
    assert within(problem, choice, budgets)
    assert choice.bound <= best * (1 + 1e-6)
    assert choice.cost == pytest.approx(best, rel=2e-3)


@given(st.integers(0, 10_000), st.integers(1, 3), SHARES)
def test_a_narrow_search_keeps_budgets_and_bound(seed: int, resources: int, shares: list[float]) -> None:
    problem = random_problem(seed, groups=12, levels=6, resources=resources)
    budgets = budgets_at(problem, shares[:resources])
    exact = solve(problem, budgets)
    try:
        narrow = solve(problem, budgets, width=2)
    except SearchError:
        return
    if narrow is None or exact is None:
        assert narrow is exact
        return
    assert within(problem, narrow, budgets)
    assert narrow.bound - 1e-6 <= exact.cost <= narrow.cost + 1e-6


def test_a_budget_that_is_just_attainable_is_attained() -> None:
    problem = Problem(
        [np.array([0.3, 0.1]), np.array([0.7, 0.2])], {"ms": [np.array([0.1, 0.3]), np.array([0.2, 0.7])]}
    )
    assert [solve(problem, {"ms": ms}).levels for ms in (0.1 + 0.2, 0.5, 0.1 + 0.7, 1.0)] == [
        (0, 0), (1, 0), (0, 1), (1, 1),
    ]  # fmt: skip
    assert solve(problem, {"ms": 0.3 - 1e-6}) is None
    assert solve(problem, {"ms": -np.inf}) is None


def test_without_budgets_the_least_costs_are_chosen() -> None:
    problem = random_problem(0, groups=5, levels=4, resources=2)
    choice = solve(problem, {})
    assert choice is not None
    assert choice.cost == choice.bound == pytest.approx(sum(row.min() for row in problem.costs))


def test_where_there_is_nothing_to_decide() -> None:
    single = Problem([np.array([0.5]), np.array([0.25])], {"ms": [np.array([1.0]), np.array([2.0])]})
    assert solve(single, {"ms": 3.0}).levels == (0, 0)
    assert solve(single, {"ms": 2.9}) is None
    nothing = Problem([], {"ms": []}, 0.5, {"ms": 1.0})
    assert solve(nothing, {"ms": 1.0}) == nothing.choice((), bound=0.5)
    assert solve(nothing, {"ms": 0.5}) is None
    alike = Problem([np.array([0.5, 0.25])], {"ms": [np.array([1.0, 1.0])]})
    assert solve(alike, {"ms": 1.0}).levels == (1,)


def test_impossible_and_unproven_are_told_apart() -> None:
    """Opposite needs: each group has to spend one resource or the other, and the budgets take an even split."""
    one, other = np.array([1.0, 0.0]), np.array([0.0, 1.0])
    uneven = Problem([np.array([0.0, 0.0])] * 9, {"a": [one] * 9, "b": [other] * 9})
    assert solve(uneven, {"a": 4.0, "b": 4.0}) is None
    assert solve(uneven, {"a": 4.0, "b": 5.0}).cost == 0
    rng = np.random.default_rng(0)
    hard = [rng.random(6) for _ in range(12)]
    partition = Problem([np.zeros(6)] * 12, {"a": hard, "b": [-row for row in hard]})
    with pytest.raises(SearchError, match="does not prove"):
        solve(partition, {"a": 6.0, "b": -6.0}, width=4)


@given(st.lists(small_problems(resources=1), min_size=1, max_size=4), st.integers(-8, 8))
def test_the_best_scenario_is_found(problems: list[Problem], total: int) -> None:
    budgets = {"latency_ms": total / 4}
    each = {name: best for name, problem in enumerate(problems) if (best := brute_force(problem, budgets)) is not None}
    found = solve_scenarios(dict(enumerate(problems)), budgets)
    if not each:
        assert found is None
        return
    assert found is not None
    name, choice = found
    assert choice.cost == choice.bound == pytest.approx(min(each.values()))
    assert within(problems[name], choice, budgets)


@given(st.lists(st.integers(0, 10_000), min_size=2, max_size=4), st.floats(0.2, 0.8))
def test_the_bound_holds_for_all_scenarios(seeds: list[int], share: float) -> None:
    scenarios = {seed: random_problem(seed, groups=8, levels=5) for seed in seeds}
    budgets = {"latency_ms": max(budgets_at(problem, [share])["latency_ms"] for problem in scenarios.values())}
    best = min(choice.cost for problem in scenarios.values() if (choice := solve(problem, budgets)))
    frontiers = {name: Frontier.of(problem, resolution=3) for name, problem in scenarios.items()}
    narrow = solve_scenarios(scenarios, budgets, width=1)
    for found in (narrow, cheapest_at(frontiers, budgets["latency_ms"])):
        assert found is not None
        assert found[1].bound - 1e-9 <= best <= found[1].cost + 1e-9


def test_widths_and_budgets_that_make_no_sense_are_refused() -> None:
    problem = random_problem(0, groups=3, levels=3)
    with pytest.raises(ValueError, match="at least 1"):
        solve(problem, {"latency_ms": 1.0}, width=0)
    with pytest.raises(ValueError, match="budget of 'ms'"):
        solve(problem, {"ms": 1.0})
    with pytest.raises(ValueError, match="nan"):
        solve(problem, {"latency_ms": float("nan")})
