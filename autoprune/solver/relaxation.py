"""The Lagrangian relaxation: budgets become prices, and every group chooses for itself. It bounds what is possible."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from autoprune.solver.problem import TOLERANCE, Floats, Problem

STEEPEST = 1e4  # prices are sought up to this many whole ranges of cost for one whole range of a resource
ROUNDS = 1000
FACTORS = (0.0, 0.3, 0.6, 0.8, 0.9, 1.1, 1.25, 1.6, 3.0)


@dataclass(frozen=True, eq=False)
class Relaxation:
    """A problem under budgets, with a price for each resource.

    Attributes:
        costs: shape (groups, levels); infinite where a level is out of the question.
        spends: shape (groups, levels, resources): above the least of the group, as shares of the resource's range.
            Resources that no choice can exhaust are left out.
        slack: by resource, what all groups together can spend.
        base_cost: the problem's.
        prices: shape (price lists, resources): the first bounds best, the others lie around it.
        gaps: shape (groups, levels): by how much a level raises ``bound``; one level of each group has 0.
        bound: no choice within the budgets costs less.
        most: every choice costs less.
        tolerance: differences of cost up to this are rounding errors.
    """

    costs: Floats
    spends: Floats
    slack: Floats
    base_cost: float
    prices: Floats
    gaps: Floats
    bound: float
    most: float
    tolerance: float


def relax(problem: Problem, budgets: Mapping[str, float]) -> Relaxation | None:
    """Find the prices that bound best; None where it shows that no choice is within the budgets.

    Raises:
        ValueError: a budget of an unknown resource.
    """
    slack = problem.slack(budgets) + problem.tolerance
    if (slack < 0).any():
        return None
    costs, possible = problem.cost_table, np.isfinite(problem.cost_table)
    spends = np.where(possible[..., None], problem.spend_table, 0.0)
    ranges = spends.max(axis=1, initial=0.0).sum(axis=0)
    scarce = ranges > slack
    spends, slack = spends[..., scarce] / ranges[scarce], slack[scarce] / ranges[scarce]
    largest = float(np.where(possible, costs, 0.0).max(axis=1, initial=0.0).sum()) or 1.0
    prices = largest * _best_prices(costs / largest, spends, slack)
    priced = costs + spends @ prices
    least = priced.min(axis=1, initial=np.inf)
    bound = problem.base_cost + float(least.sum() - prices @ slack)
    most = problem.base_cost + largest * (1 + 2 * TOLERANCE)
    if bound >= most:
        return None
    return Relaxation(
        costs=costs,
        spends=spends,
        slack=slack,
        base_cost=problem.base_cost,
        prices=_around(prices),
        gaps=priced - least[:, None],
        bound=bound,
        most=most,
        tolerance=TOLERANCE * largest,
    )


def _around(prices: Floats) -> Floats:
    """The prices, then variants with all of them or one of them scaled."""
    n = len(prices)
    scaled = [np.ones(n, dtype=bool), *np.eye(n, dtype=bool)][: n + 1 if n > 1 else n]
    return np.array([prices, *(np.where(which, factor * prices, prices) for which in scaled for factor in FACTORS)])


def _best_prices(costs: Floats, spends: Floats, slack: Floats) -> Floats:
    """Non-negative prices whose bound is nearly the largest; any prices give a valid one.

    The bound is concave in the prices, and what the choice at some prices spends above the slack is a supergradient.
    Source: the ellipsoid method (Yudin, Nemirovski 1976; Shor 1977), which halves an interval in one dimension and
    converges geometrically in a few.
    """
    n = len(slack)
    groups = np.arange(len(costs))
    centre, shape = np.zeros(n), STEEPEST**2 * np.eye(n)
    best, highest = centre, -np.inf
    for _ in range(ROUNDS if n else 0):
        uphill = (centre < 0).astype(float)  # back to where prices are
        inside = not uphill.any()
        if inside:
            priced = costs + spends @ centre
            chosen = priced.argmin(axis=1)
            uphill = spends[groups, chosen].sum(axis=0) - slack
            value = float(priced[groups, chosen].sum() - centre @ slack)
            if value > highest:
                best, highest = centre, value
        width = float(np.sqrt(max(uphill @ shape @ uphill, 0.0)))
        if (width < TOLERANCE and inside) or not width:  # the bound can rise by no more than this
            break
        push = shape @ uphill / width
        centre = centre + push / (n + 1)
        shape = shape / 4 if n == 1 else n**2 / (n**2 - 1) * (shape - 2 / (n + 1) * np.outer(push, push))
    return best
