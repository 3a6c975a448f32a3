"""The Optuna study of a run, kept in step with the result files: files first, then the study."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import optuna
from optuna.study import StudyDirection
from optuna.trial import TrialState
from sqlalchemy.exc import SQLAlchemyError

from autoprune.errors import RunError
from autoprune.pareto import Objective, value
from autoprune.recipe import DENSE, Recipe
from autoprune.records import Screened, TrialRecord
from autoprune.study._database import NAME, Database
from autoprune.study._memory import Memory
from autoprune.study.directory import RunDirectory

RECIPE = "recipe"
STUDY = 0  # the id of the only study in a memory


@dataclass(frozen=True)
class Question:
    """A recipe that the study waits for."""

    trial: optuna.Trial
    recipe: Recipe


class Ledger:
    """Which recipes were asked for and what became of them.

    A trial is written to ``study.db`` when it is asked and when it is told; its record is saved to its file before the
    study is told. So a kill at any point leaves at most one trial running; opening the ledger again either tells it its
    saved record or asks for the same recipe once more.

    Attributes:
        study: what samplers see, in `Memory`.
        records: by recipe id.
    """

    def __init__(
        self, directory: RunDirectory, objectives: Sequence[Objective], suggest: Callable[[optuna.Trial], Recipe]
    ) -> None:
        self.directory = directory
        self.objectives = tuple(objectives)
        self.records = directory.records()
        self._suggest = suggest
        self._answered: list[str] = []
        self._fixed: set[str] = set()
        self._noted: set[str] = set()
        optuna.logging.set_verbosity(optuna.logging.WARNING)
        directions = [StudyDirection.MAXIMIZE if by.maximize else StudyDirection.MINIMIZE for by in objectives]
        self._memory = Memory(directions)
        self.study = optuna.create_study(study_name=NAME, storage=self._memory, directions=directions)
        with self._said():
            self._database = Database(directory.study, directions)
            self._reopen()

    def close(self) -> None:
        """Let go of the database, so that what it has in its write-ahead log is in its file."""
        self._database.close()

    @property
    def order(self) -> list[str]:
        """Recipe ids in the order in which they were tried, each once; the dense model's is the first."""
        return list(dict.fromkeys([*([DENSE.id] if DENSE.id in self.records else []), *self._answered]))

    @property
    def answered(self) -> int:
        """Questions that have their answer; the same number after a resume as without the interruption."""
        return len(self._answered)

    def enqueue(self, answers: Sequence[Mapping[str, Any]]) -> None:
        """Ask for these first, each a mapping of parameter names to values; once each, however often the run begins."""
        for answer in answers:
            if _key(answer) not in self._fixed:
                self._fixed.add(_key(answer))
                self.study.enqueue_trial(dict(answer))

    @property
    def waiting(self) -> bool:
        """Whether something that was enqueued is still to be asked."""
        return bool(self.study.get_trials(deepcopy=False, states=(TrialState.WAITING,)))

    def ask(self, sampler: optuna.samplers.BaseSampler, answers: Mapping[str, Any] | None = None) -> Question:
        """The next recipe; it may be one whose record is already known.

        What is waiting comes first; then ``answers``, the rest of them from ``sampler``.
        """
        self.study.sampler = sampler
        if answers is not None and not self.waiting:
            self.study.enqueue_trial(dict(answers))
        trial = self.study.ask()
        recipe = self._suggest(trial)
        trial.set_user_attr(RECIPE, recipe.id)
        self._write(trial.number)
        return Question(trial, recipe)

    def tell(self, question: Question, record: TrialRecord) -> None:
        """Keep the record, then tell the study."""
        self.keep(record)
        self._tell(question.trial.number, record)

    def keep(self, record: TrialRecord) -> None:
        """Save the record of a recipe, also of one that the study did not ask for."""
        if record.recipe.id not in self.records:
            self.directory.save(record)
            self.records[record.recipe.id] = record

    def _tell(self, number: int, record: TrialRecord) -> None:
        if isinstance(record.outcome, Screened):
            self.study.tell(number, state=TrialState.PRUNED)
        elif record.score is None:
            self.study.tell(number, state=TrialState.FAIL)
        else:
            self.study.tell(number, [value(record.score, objective) for objective in self.objectives])
        self._write(number)
        self._answered.append(record.recipe.id)

    def _write(self, number: int) -> None:
        """Bring the file up to what the memory has of that trial; and of the study, which only samplers write in."""
        notes = self._memory.get_study_system_attrs(STUDY)
        new = {key: note for key, note in notes.items() if key not in self._noted}
        with self._said():
            self._database.put(self._memory.get_trial(number), new.items())
        self._noted |= new.keys()

    def _reopen(self) -> None:
        """Fill the memory from the file, and leave no trial running: tell one that has a record, let others wait."""
        for key, note in self._database.study_attributes().items():
            self._memory.set_study_system_attr(STUDY, key, note)
            self._noted.add(key)
        trials = self._database.trials()
        for trial in trials:
            known = trial.user_attrs.get(RECIPE)
            if trial.state == TrialState.COMPLETE and known not in self.records:
                raise RunError(
                    f"{self.directory.trials / f'{known}.json'} is missing, though the study has its result."
                )
            if trial.state == TrialState.RUNNING and known not in self.records:
                trial.state = TrialState.WAITING
                self._database.put(trial)
            if trial.state.is_finished() and known in self.records:
                self._answered.append(known)
            self._fixed.add(_key(trial.system_attrs.get("fixed_params", {})))
        self._memory.fill(STUDY, trials, complete=self._database.complete)
        for trial in trials:
            if trial.state == TrialState.RUNNING:
                self._tell(trial.number, self.records[trial.user_attrs[RECIPE]])

    @contextmanager
    def _said(self) -> Iterator[None]:
        """Turn a refusal of the database into a sentence."""
        try:
            yield
        except (SQLAlchemyError, optuna.exceptions.StorageInternalError) as error:
            cause = _first_line(error.__cause__ or error)
            raise RunError(f"{self.directory.study} is corrupted or cannot be written ({cause}).") from error


def _first_line(error: BaseException) -> str:
    return str(error).splitlines()[0]


def _key(answers: Mapping[str, Any]) -> str:
    return str(sorted(answers.items()))
