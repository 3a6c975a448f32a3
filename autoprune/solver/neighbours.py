"""What lies one step from a choice, for local search."""

from collections.abc import Iterator, Mapping, Sequence

import numpy as np

from autoprune.solver.problem import Choice, Floats, Problem


def neighbours(problem: Problem, levels: Sequence[int], *, budgets: Mapping[str, float]) -> Iterator[Choice]:
    """Choices one level up or down in one group, or up in one and down in another, within the budgets; cheapest first.

    Up and down are the order of the tables. The start itself need not be within the budgets.

    Raises:
        ValueError: levels or budgets that do not fit the problem.
    """
    start = problem.choice(levels)
    left = problem.slack(budgets) + problem.least - np.array(list(start.spends.values())) + problem.tolerance
    up, down = _moved(problem, start.levels, +1), _moved(problem, start.levels, -1)
    none = len(start.levels)  # no group is moved: the last row of what `_changes` gives
    ups, downs = (part.ravel() for part in np.meshgrid([*up, none], [*down, none], indexing="ij"))
    different = ups != downs  # also leaves out the start, which moves nothing
    ups, downs = ups[different], downs[different]
    changes = _changes(problem, start.levels, +1)[ups] + _changes(problem, start.levels, -1)[downs]
    fit = np.flatnonzero((changes[:, 1:] <= left).all(axis=1))
    for move in fit[np.argsort(changes[fit, 0], kind="stable")]:
        moved = list(start.levels)
        for group, by in ((ups[move], +1), (downs[move], -1)):
            if group < none:
                moved[group] += by
        yield problem.choice(moved)


def _moved(problem: Problem, levels: Sequence[int], by: int) -> list[int]:
    """Groups that have a level there."""
    return [i for i, row in enumerate(problem.costs) if 0 <= levels[i] + by < len(row)]


def _changes(problem: Problem, levels: Sequence[int], by: int) -> Floats:
    """Shape (groups + 1, 1 + resources): what that step adds to the cost and to the spends; the last row is no step."""
    changes = np.zeros((len(levels) + 1, 1 + len(problem.resources)))
    for i in _moved(problem, levels, by):
        for column, rows in enumerate((problem.costs, *problem.spends.values())):
            changes[i, column] = rows[i][levels[i] + by] - rows[i][levels[i]]
    return changes
