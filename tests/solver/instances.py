"""Random problems and two oracles: HiGHS and brute force."""

from itertools import product

import numpy as np
from hypothesis import strategies as st
from scipy.optimize import Bounds, LinearConstraint, milp
from scipy.sparse import block_diag

from autoprune.solver import Choice, Problem

NAMES = ("latency_ms", "size_bytes", "peak_memory_bytes")


def random_problem(seed: int, *, groups: int, levels: int, resources: int = 1, monotone: bool = True) -> Problem:
    """Like measured tables (wider costs less error and more time, in stairs) or all numbers independent."""
    rng = np.random.default_rng(seed)
    counts = rng.integers(1, levels, groups, endpoint=True)
    keep = [np.linspace(1 / n, 1, n) for n in counts]
    if not monotone:
        spends = {name: [rng.normal(size=n) for n in counts] for name in NAMES[:resources]}
        return Problem([rng.random(n) for n in counts], spends)
    costs = [rng.lognormal() * (1 - row) ** rng.uniform(1, 3) for row in keep]
    spends = {name: [_stairs(rng, row) for row in keep] for name in NAMES[:resources]}
    return Problem(costs, spends)


def _stairs(rng: np.random.Generator, keep: np.ndarray) -> np.ndarray:
    stairs = np.ceil(keep * rng.integers(2, 8)) + 0.05 * rng.random(len(keep))
    return rng.lognormal() * (stairs - stairs[-1])  # differences to dense: negative


def budgets_at(problem: Problem, shares: list[float]) -> dict[str, float]:
    """Budgets at those shares of the range of each resource."""
    most = [sum(row.max() for row in rows) + problem.base_spends.get(n, 0.0) for n, rows in problem.spends.items()]
    ends = zip(problem.resources, problem.least, most, shares, strict=True)
    return {name: float(low + share * (high - low)) for name, low, high, share in ends}


def within(problem: Problem, choice: Choice, budgets: dict[str, float]) -> bool:
    assert problem.choice(choice.levels).spends == choice.spends
    assert problem.choice(choice.levels).cost == choice.cost
    slack = dict(zip(problem.resources, problem.tolerance, strict=True))
    return all(choice.spends[name] <= budget + 2 * slack[name] for name, budget in budgets.items())


def brute_force(problem: Problem, budgets: dict[str, float]) -> float | None:
    every = (problem.choice(levels) for levels in product(*(range(len(row)) for row in problem.costs)))
    return min((choice.cost for choice in every if within(problem, choice, budgets)), default=None)


def highs(problem: Problem, budgets: dict[str, float]) -> float | None:
    """The least cost by mixed-integer programming."""
    cost = np.concatenate(problem.costs)
    one_each = block_diag([np.ones((1, len(row))) for row in problem.costs])
    left = [budgets[name] - problem.base_spends.get(name, 0.0) for name in problem.resources]
    spends = np.array([np.concatenate(rows) for rows in problem.spends.values()])
    found = milp(
        cost,
        integrality=np.ones(len(cost)),
        bounds=Bounds(0, 1),
        constraints=[LinearConstraint(one_each, 1, 1), LinearConstraint(spends, -np.inf, left)],
        options={"mip_rel_gap": 0.0},
    )
    assert found.status in (0, 2), found.message
    return None if found.status == 2 else float(found.fun) + problem.base_cost


@st.composite
def small_problems(draw: st.DrawFn, *, resources: int | None = None) -> Problem:
    """Few groups and round numbers: many ties, zero ranges, negative spends."""
    counts = draw(st.lists(st.integers(1, 4), min_size=1, max_size=5))
    number = draw(st.integers(1, 3)) if resources is None else resources

    def table(low: int, high: int) -> list[np.ndarray]:
        return [np.array(draw(st.lists(st.integers(low, high), min_size=n, max_size=n))) / 4 for n in counts]

    base = {name: draw(st.integers(-4, 4)) / 4 for name in NAMES[:number]}
    return Problem(table(0, 12), {name: table(-8, 8) for name in base}, draw(st.integers(0, 4)) / 4, base)
