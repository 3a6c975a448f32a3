"""The cheapest choice within budgets of any number of resources, over one problem or over scenarios."""

from collections.abc import Mapping
from dataclasses import replace
from typing import TypeVar

import numpy as np

from autoprune.errors import SearchError
from autoprune.solver.labels import search
from autoprune.solver.problem import Choice, Problem
from autoprune.solver.relaxation import relax

K = TypeVar("K")
WIDEST = 2048


def solve(problem: Problem, budgets: Mapping[str, float], *, width: int = WIDEST) -> Choice | None:
    """The cheapest choice within ``budgets``; a resource without a budget is unlimited.

    What is guaranteed. The choice never spends more than a budget. No choice within them is cheaper than its ``bound``,
    so it is optimal where ``bound`` equals ``cost``. None means that no choice is within the budgets. Nothing is
    rounded; more, cheaper and equal mean by more or less than 1e-9 of the largest sums that the tables allow.

    At most ``width`` partial choices are looked at in parallel: time and memory are at most groups x levels x width.
    Nearly always the optimum is proven long before that; where it is not, ``bound`` is below ``cost``.

    Raises:
        ValueError: a budget of an unknown resource, or a width below 1.
        SearchError: no choice was found, and it is not proven that there is none. That takes several resources whose
            least spends lie at different levels, and budgets that leave hardly any choice.
    """
    best = solve_scenarios({None: problem}, budgets, width=width)
    return best[1] if best else None


def solve_scenarios(
    scenarios: Mapping[K, Problem], budgets: Mapping[str, float], *, width: int = WIDEST
) -> tuple[K, Choice] | None:
    """The name of the best scenario and its cheapest choice, guaranteed as by `solve` over all scenarios together.

    The most promising scenario is solved first; one that cannot be cheaper than a known choice costs next to nothing.

    Raises:
        ValueError, SearchError: as `solve`.
    """
    if width < 1:
        raise ValueError(f"The width is {width}: it has to be at least 1.")
    relaxed = {name: bounded for name, problem in scenarios.items() if (bounded := relax(problem, budgets))}
    best: tuple[K, Choice] | None = None
    bound = np.inf
    for name in sorted(relaxed, key=lambda name: relaxed[name].bound):
        below = best[1].cost if best else np.inf
        found, proven = search(scenarios[name], relaxed[name], width=width, below=below)
        best = (name, found) if found else best
        bound = min(bound, proven)
    if best:
        return best[0], replace(best[1], bound=min(bound, best[1].cost))
    if bound < np.inf:
        raise SearchError(
            f"None of the {width} most promising choices is within the budgets, which does not prove that there is "
            "none: loosen the budgets or widen the search."
        )
    return None
