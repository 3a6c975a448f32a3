"""The study as samplers see it: in memory, and no longer than they can read between two trials."""

import copy
from collections.abc import Callable, Container, Sequence

import numpy as np
import optuna
from optuna.study import StudyDirection
from optuna.trial import FrozenTrial, TrialState

SEEN, BEST, LATEST = 256, 96, 96


class Memory(optuna.storages.InMemoryStorage):
    """Optuna's storage in memory that shows at most ``SEEN`` finished trials, since samplers read all they are shown.

    Up to that many trials nothing is hidden. Whenever there is one more, those that stay are the ``LATEST`` and, of the
    older ones, the ``BEST``; which these are depends on the order of the trials alone, not on when the study was
    opened. Trials keep their numbers, which are their ids too.
    """

    def __init__(self, directions: Sequence[StudyDirection]) -> None:
        super().__init__()
        self._signs = [-1 if direction == StudyDirection.MAXIMIZE else 1 for direction in directions]
        self._seen: list[int] = []
        self._open: list[int] = []
        self._costs: dict[int, list[float]] = {}

    def fill(
        self, study_id: int, trials: Sequence[FrozenTrial], *, complete: Callable[[list[FrozenTrial]], None]
    ) -> None:
        """Take the trials of a study that is opened again; ``complete`` is called with those that samplers may see."""
        for number, trial in enumerate(trials):
            self._enter(number, trial)
        shown = {*self._seen, *self._open}
        complete([trials[number] for number in sorted(shown)])
        for number, trial in enumerate(trials):
            hidden = number not in shown
            made = super().create_new_trial(study_id, None if hidden else trial)
            if hidden:
                super().set_trial_state_values(made, TrialState.FAIL)

    def create_new_trial(self, study_id: int, template_trial: FrozenTrial | None = None) -> int:
        trial_id: int = super().create_new_trial(study_id, template_trial)
        self._enter(trial_id, self.get_trial(trial_id))
        return trial_id

    def set_trial_state_values(self, trial_id: int, state: TrialState, values: Sequence[float] | None = None) -> bool:
        done: bool = super().set_trial_state_values(trial_id, state, values)
        if state.is_finished():
            self._open.remove(trial_id)
            self._enter(trial_id, self.get_trial(trial_id))
        return done

    def get_all_trials(
        self, study_id: int, deepcopy: bool = True, states: Container[TrialState] | None = None
    ) -> list[FrozenTrial]:
        finished = () if states == (TrialState.WAITING,) else self._seen
        shown = map(self.get_trial, (*finished, *self._open))
        found = [trial for trial in shown if states is None or trial.state in states]
        return copy.deepcopy(found) if deepcopy else found

    def _enter(self, number: int, trial: FrozenTrial) -> None:
        if not trial.state.is_finished():
            self._open.append(number)
            return
        self._seen.append(number)
        if trial.state == TrialState.COMPLETE:
            self._costs[number] = [sign * value for sign, value in zip(self._signs, trial.values, strict=True)]
        if len(self._seen) > SEEN:
            self._narrow()

    def _narrow(self) -> None:
        older, latest = self._seen[:-LATEST], self._seen[-LATEST:]
        scored = [number for number in older if number in self._costs]
        best = ranked(np.array([self._costs[number] for number in scored]).reshape(len(scored), -1))[:BEST]
        self._seen = [*sorted(scored[n] for n in best), *latest]
        self._costs = {number: self._costs[number] for number in self._seen if number in self._costs}


def ranked(costs: np.ndarray) -> list[int]:
    """Rows of ``costs`` [n, objectives], the best first: by how many others dominate them, then the least crowded.

    Source: ranks of Fonseca and Fleming (1993), crowding distances of Deb et al. (2002).
    """
    if not len(costs):
        return []
    no_worse, better = costs[:, None] <= costs, costs[:, None] < costs
    dominators = (no_worse.all(-1) & better.any(-1)).sum(0)
    distance = np.zeros(len(costs))
    for column in costs.T:
        order = np.argsort(column, kind="stable")
        ordered = np.concatenate([[-np.inf], column[order], [np.inf]])
        distance[order] += (ordered[2:] - ordered[:-2]) / (np.ptp(column) or 1.0)
    return [int(n) for n in np.lexsort((-distance, dominators))]
