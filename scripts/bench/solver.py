"""What a solve costs, and how far its choices are from the optimum that HiGHS finds.

Run it on an idle machine: ``python scripts/bench/solver.py --json solver.json``.
"""

import time
from collections.abc import Callable, Iterable
from typing import Any, TypeVar

import numpy as np
from _bench import Bench, main
from scipy.optimize import Bounds, LinearConstraint, milp
from scipy.sparse import block_diag

from autoprune.solver import Choice, Frontier, Problem, solve

SIZES = [(10, 4), (30, 8), (54, 8), (100, 8), (100, 16)]
SHARES = (0.25, 0.5, 0.75)
SECONDS = 3.0  # HiGHS may take that long
T = TypeVar("T")


def measured_like(rng: np.random.Generator, groups: int, levels: int, resources: int) -> Problem:
    """Narrower costs more error, convex; spends fall in stairs with 2 % of noise, differently for each resource."""
    keep = np.linspace(1 / levels, 1, levels)
    costs = [rng.lognormal() * (1 - keep) ** rng.uniform(1, 3) for _ in range(groups)]
    return Problem(costs, {f"resource {r}": [_stairs(rng, keep) for _ in range(groups)] for r in range(resources)})


def _stairs(rng: np.random.Generator, keep: np.ndarray) -> np.ndarray:
    stairs = rng.integers(3, 2 * len(keep))
    return rng.lognormal(sigma=0.7) * (np.ceil(keep * stairs) / stairs + 0.02 * rng.random(len(keep)))


def unrelated(rng: np.random.Generator, groups: int, levels: int, resources: int) -> Problem:
    """All numbers independent: most levels are dominated."""
    spends = {f"resource {r}": [rng.random(levels) for _ in range(groups)] for r in range(resources)}
    return Problem([rng.random(levels) for _ in range(groups)], spends)


def proportional(rng: np.random.Generator, groups: int, levels: int, resources: int) -> Problem:
    """What a group saves it costs, nearly: the hardest kind, with countless near-ties."""
    spends = {f"resource {r}": [rng.random(levels) for _ in range(groups)] for r in range(resources)}
    total = [sum(rows) for rows in zip(*spends.values(), strict=True)]
    return Problem([row.max() - row + 0.01 * rng.random(levels) for row in total], spends)


KINDS = (measured_like, unrelated, proportional)


def timed_ms(call: Callable[[], T]) -> tuple[T, float]:
    """The result, and the best of three times."""
    times = []
    for _ in range(3):
        began = time.perf_counter()
        result = call()
        times.append(1e3 * (time.perf_counter() - began))
    return result, min(times)


def budgets_at(problem: Problem, share: float) -> dict[str, float]:
    """That share of the way from the choice that spends least of all together, which is possible, to the most."""
    together = [sum(rows) for rows in zip(*problem.spends.values(), strict=True)]
    least = problem.choice([int(row.argmin()) for row in together]).spends
    most = {name: sum(row.max() for row in rows) for name, rows in problem.spends.items()}
    return {name: least[name] + share * (most[name] - least[name]) for name in most}


def highs(problem: Problem, budgets: dict[str, float]) -> tuple[float, float] | None:
    """The least cost and milliseconds, None when it is not proven in time."""
    cost = np.concatenate(problem.costs)
    one_each = block_diag([np.ones((1, len(row))) for row in problem.costs])
    spends = np.array([np.concatenate(rows) for rows in problem.spends.values()])
    limits = [LinearConstraint(one_each, 1, 1), LinearConstraint(spends, -np.inf, list(budgets.values()))]
    options = {"mip_rel_gap": 0.0, "time_limit": SECONDS}
    began = time.perf_counter()
    found = milp(cost, integrality=np.ones(len(cost)), bounds=Bounds(0, 1), constraints=limits, options=options)
    return (float(found.fun), 1e3 * (time.perf_counter() - began)) if found.status == 0 else None


def describe(problem: Problem) -> dict[str, float | int]:
    """Over the budgets: the worst time, what is not proven, and the worst excess over the optima that HiGHS proves."""
    budgets = [budgets_at(problem, share) for share in SHARES]
    solved = [timed_ms(lambda within=within: solve(problem, within)) for within in budgets]
    optima = [highs(problem, within) for within in budgets]
    choices = [choice for choice, _ in solved]
    row = {
        "solve_ms": max(ms for _, ms in solved),
        "unproven": sum(choice.bound < choice.cost for choice in choices),
        "gap_percent": max(100 * (1 - choice.bound / choice.cost) for choice in choices),
        "excess_percent": excess_percent(choices, optima),
        "highs_ms": max((ms for _, ms in filter(None, optima)), default=float("nan")),
        "highs_unproven": optima.count(None),
    }
    if len(problem.resources) == 1:
        frontier, row["pass_ms"] = timed_ms(lambda: Frontier.of(problem))
        found = [timed_ms(lambda within=within: frontier.at(*within.values())) for within in budgets]
        choices += [choice for choice, _ in found]
        row["at_ms"] = max(ms for _, ms in found)
        row["frontier_excess_percent"] = excess_percent([choice for choice, _ in found], optima)
    row["exceeded"] = sum(
        exceeds(problem, choice, within) for choice, within in zip(choices, budgets * 2, strict=False)
    )
    return row


def excess_percent(choices: list[Choice], optima: list[tuple[float, float] | None]) -> float:
    proven = [(choice.cost, found[0]) for choice, found in zip(choices, optima, strict=True) if found]
    return max((100 * (cost / best - 1) for cost, best in proven), default=float("nan"))


def exceeds(problem: Problem, choice: Choice, budgets: dict[str, float]) -> bool:
    room = dict(zip(problem.resources, 2 * problem.tolerance, strict=True))
    return any(choice.spends[name] > budget + room[name] for name, budget in budgets.items())


def run(bench: Bench) -> None:
    for kind in KINDS[:1] if bench.quick else KINDS:
        for groups, levels in SIZES[:2] if bench.quick else SIZES:
            for resources in (1,) if kind is proportional else (1, 2, 3):  # nobody proves more of those
                problem = kind(np.random.default_rng(groups + resources), groups, levels, resources)
                name = kind.__name__.replace("_", " ")
                bench.row(tables=name, groups=groups, levels=levels, resources=resources, **describe(problem))
                bench.say(f"{name}: {groups} groups x {levels} levels, {resources} resources")
    bench.figure("choices that exceed a budget", sum(row["exceeded"] for row in bench.rows), goal="== 0")
    for kind in dict.fromkeys(row["tables"] for row in bench.rows):
        rows = [row for row in bench.rows if row["tables"] == kind]
        _figures(bench, kind, rows, goals=kind != "proportional")


def _figures(bench: Bench, kind: str, rows: list[dict[str, Any]], *, goals: bool) -> None:
    def figure(name: str, values: Iterable[float], goal: str) -> None:
        worst = max((value for value in values if value == value), default=None)
        if worst is not None:
            bench.figure(f"{kind}: {name}", worst, goal=goal if goals else None)

    single = [row for row in rows if row["resources"] == 1]
    largest = [row for row in single if (row["groups"], row["levels"]) == (100, 16)]
    figure("solve, 100 x 16 x 1 (ms)", (row["solve_ms"] for row in largest), "<= 50")
    figure("frontier, 100 x 16 x 1 (ms)", (row["pass_ms"] for row in largest), "<= 50")
    figure("a budget of the frontier, 100 x 16 x 1 (ms)", (row["at_ms"] for row in largest), "<= 5")
    middle = [row for row in rows if (row["groups"], row["levels"], row["resources"]) == (30, 8, 3)]
    figure("solve, 30 x 8 x 3 (ms)", (row["solve_ms"] for row in middle), "<= 300")
    figure("solve above the optimum, one resource (%)", (row["excess_percent"] for row in single), "<= 0.001")
    figure("solve above the optimum, any (%)", (row["excess_percent"] for row in rows), "<= 0.5")
    figure("frontier above the optimum (%)", (row["frontier_excess_percent"] for row in single), "<= 1")


if __name__ == "__main__":
    main("Solver", run)
