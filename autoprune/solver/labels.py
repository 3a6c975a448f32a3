"""Several resources, one set of budgets: partial choices, extended group by group and cut by a proven bound."""

from dataclasses import replace

import numpy as np

from autoprune.solver.problem import Booleans, Choice, Floats, Integers, Problem
from autoprune.solver.relaxation import Relaxation

NARROWEST, WIDENING = 16, 16
CROWD = 4  # widths of labels whose dominance and best bounds are looked at
RIVALS = 64  # labels that all others are compared with; the rest of the dominated ones are only slower, not wrong


def search(
    problem: Problem, relaxation: Relaxation, *, width: int, below: float = np.inf
) -> tuple[Choice | None, float]:
    """The cheapest choice that was found below that cost, and a bound on all choices below it.

    The bound is infinite where there is proven to be none. ``relaxation`` is that of ``problem`` under the budgets.

    Labels (partial choices) are extended by one group at a time. One is dropped where another costs and spends no more,
    or where its Lagrangian bound reaches the cost of a known choice. The ``width`` most promising ones are kept, and
    what is dropped for want of width lowers the bound that is returned. The search starts narrow, so as to know a good
    choice early, and widens until the choice is proven optimal.

    Source: label setting as in Kellerer et al. (2004), chapters 9 and 11; the bound as in Fisher, "The Lagrangian
    Relaxation Method for Solving Integer Programming Problems" (1981).
    """
    found, limit, narrow = None, min(below, relaxation.most), min(NARROWEST, width)
    while True:
        levels, dropped = _sweep(relaxation, limit, narrow)
        if levels is not None:
            found = problem.choice(levels)
            limit = found.cost
        if dropped >= limit - relaxation.tolerance:
            return found and replace(found, bound=limit), limit if found else np.inf
        if narrow == width:
            return found and replace(found, bound=dropped), dropped
        narrow = min(narrow * WIDENING, width)


def _sweep(relaxation: Relaxation, limit: float, width: int) -> tuple[list[int] | None, float]:
    """The cheapest choice found below ``limit``, and the least bound of a label that was dropped for want of width."""
    limit -= relaxation.tolerance
    room = limit - relaxation.bound
    possible = relaxation.gaps <= room
    if room < 0:
        return None, np.inf
    order = _weightiest_first(relaxation.costs, possible)
    later, rest = _ahead(relaxation, order)
    gap, cost, spent = np.zeros(1), np.zeros(1), np.zeros((1, len(relaxation.slack)))
    steps: list[tuple[int, Integers, Integers]] = []
    dropped = np.inf
    for n, group in enumerate(order):
        levels = np.flatnonzero(possible[group])
        gap = (gap[:, None] + relaxation.gaps[group, levels]).ravel()
        spent = (spent[:, None] + relaxation.spends[group, levels]).reshape(len(gap), -1)
        cost = (cost[:, None] + relaxation.costs[group, levels]).ravel()
        kept = np.flatnonzero((gap <= room) & (spent <= relaxation.slack).all(axis=1))
        if len(kept) > CROWD * width:  # too many to look at closely
            kept = kept[gap[kept].argpartition(CROWD * width)]
            dropped = min(dropped, relaxation.bound + float(gap[kept[CROWD * width]]))
            kept = kept[: CROWD * width]
        bound = cost[kept] + (spent[kept] @ relaxation.prices.T + rest[n]).max(axis=1)
        kept, bound = kept[bound <= limit], bound[bound <= limit]
        by_bound = bound.argsort(kind="stable")
        kept, bound = kept[by_bound], bound[by_bound]
        # what the groups ahead cannot exhaust any more counts as spent alike
        undominated = _undominated(cost[kept], np.maximum(spent[kept], relaxation.slack - later[n]))
        kept, bound = kept[undominated], bound[undominated]
        dropped = min(dropped, float(bound[width:].min(initial=np.inf)))
        kept = kept[:width]
        gap, spent, cost = gap[kept], spent[kept], cost[kept]
        if not len(kept):
            return None, dropped
        steps.append((group, kept // len(levels), levels[kept % len(levels)]))
    return _traced(steps, int(cost.argmin())), dropped


def _ahead(relaxation: Relaxation, order: list[int]) -> tuple[Floats, Floats]:
    """After each group of the order, what all later groups can spend, and what they cost at least at each price list.

    The second is less the slack at those prices and with the base cost, so that it completes the bound of a label.
    """
    most = relaxation.spends[order].max(axis=1, initial=0.0)
    priced = relaxation.costs[order][..., None] + relaxation.spends[order] @ relaxation.prices.T
    least = priced.min(axis=1, initial=np.inf)
    later, rest = (x[::-1].cumsum(axis=0)[::-1] - x for x in (most, least))
    return later, rest + relaxation.base_cost - relaxation.prices @ relaxation.slack


def _weightiest_first(costs: Floats, possible: Booleans) -> list[int]:
    """Groups by the range of the costs that are still possible: what the last ones can change is little and fine."""
    most = np.where(possible, costs, -np.inf).max(axis=1, initial=-np.inf)
    least = np.where(possible, costs, np.inf).min(axis=1, initial=np.inf)
    return [int(group) for group in np.argsort(least - most, kind="stable")]


def _undominated(cost: Floats, spent: Floats) -> Integers:
    """Indices of labels, sorted by their bound, that no other of lower bound dominates; exact with one resource."""
    if spent.shape[1] == 1:
        order = np.lexsort((cost, spent[:, 0]))
        lowest = np.minimum.accumulate(cost[order])
        return np.sort(order[np.flatnonzero(np.concatenate([[True], cost[order][1:] < lowest[:-1]])[: len(order)])])
    rivals = min(RIVALS, len(cost))
    beaten = (cost[:rivals, None] <= cost) & (spent[:rivals, None] <= spent).all(axis=2)
    return np.flatnonzero(~np.triu(beaten, k=1).any(axis=0))


def _traced(steps: list[tuple[int, Integers, Integers]], label: int) -> list[int]:
    levels = [0] * len(steps)
    for group, parents, chosen in reversed(steps):
        levels[group] = int(chosen[label])
        label = int(parents[label])
    return levels
