"""The Optuna study of a run, kept in step with the result files: files first, then the study."""

import sqlite3
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import optuna
from optuna.trial import TrialState
from sqlalchemy.exc import SQLAlchemyError

from autoprune.errors import RunError
from autoprune.pareto import Objective, value
from autoprune.recipe import Recipe
from autoprune.records import Screened, TrialRecord
from autoprune.study.directory import RunDirectory

RECIPE = "recipe"


@dataclass(frozen=True)
class Question:
    """A recipe that the study waits for."""

    trial: optuna.Trial
    recipe: Recipe


class Ledger:
    """Which recipes were asked for and what became of them.

    A record is saved to its file before the study is told, so a kill at any point leaves at most one trial running;
    opening the ledger again either tells it its saved record or asks for the same recipe once more.
    """

    def __init__(
        self, directory: RunDirectory, objectives: Sequence[Objective], suggest: Callable[[optuna.Trial], Recipe]
    ) -> None:
        self.directory = directory
        self.objectives = tuple(objectives)
        self.records = directory.records()
        self._suggest = suggest
        optuna.logging.set_verbosity(optuna.logging.WARNING)
        with self._said():
            self._storage = _storage(directory.study)
            self.study = optuna.create_study(
                study_name="autoprune",
                storage=self._storage,
                directions=["maximize" if objective.maximize else "minimize" for objective in objectives],
                load_if_exists=True,
            )
            self._reconcile()

    def close(self) -> None:
        """Let go of the database, so that what it has in its write-ahead log is in its file."""
        self._storage.scoped_session.remove()
        self._storage.engine.dispose()

    @property
    def order(self) -> list[str]:
        """Recipe ids in the order in which they were tried, each once."""
        asked = [
            trial.user_attrs[RECIPE] for trial in self.study.get_trials(deepcopy=False) if RECIPE in trial.user_attrs
        ]
        return [recipe for recipe in dict.fromkeys(asked) if recipe in self.records]

    @property
    def answered(self) -> int:
        """Questions that have their answer; the same number after a resume as without the interruption."""
        done = self.study.get_trials(deepcopy=False, states=(TrialState.COMPLETE, TrialState.FAIL, TrialState.PRUNED))
        return sum(trial.user_attrs.get(RECIPE) in self.records for trial in done)

    def enqueue(self, answers: Sequence[Mapping[str, Any]]) -> None:
        """Ask for these first, each a mapping of parameter names to values."""
        with self._said():
            for answer in answers:
                self.study.enqueue_trial(dict(answer), skip_if_exists=True)

    @property
    def waiting(self) -> bool:
        """Whether something that was enqueued is still to be asked."""
        return bool(self.study.get_trials(deepcopy=False, states=(TrialState.WAITING,)))

    def ask(self, sampler: optuna.samplers.BaseSampler, answers: Mapping[str, Any] | None = None) -> Question:
        """The next recipe; it may be one whose record is already known.

        What is waiting comes first; then ``answers``, the rest of them from ``sampler``.
        """
        self.study.sampler = sampler
        with self._said():
            if answers is not None and not self.waiting:
                self.study.enqueue_trial(dict(answers))
            trial = self.study.ask()
            recipe = self._suggest(trial)
            trial.set_user_attr(RECIPE, recipe.id)
        return Question(trial, recipe)

    def tell(self, question: Question, record: TrialRecord) -> None:
        """Keep the record, then tell the study."""
        if record.recipe.id not in self.records:
            self.directory.save(record)
            self.records[record.recipe.id] = record
        with self._said():
            self._tell(question.trial.number, record)

    def _tell(self, number: int, record: TrialRecord) -> None:
        if isinstance(record.outcome, Screened):
            self.study.tell(number, state=TrialState.PRUNED)
        elif record.score is None:
            self.study.tell(number, state=TrialState.FAIL)
        else:
            self.study.tell(number, [value(record.score, objective) for objective in self.objectives])

    def _reconcile(self) -> None:
        """Leave no trial running: tell those that have a record, ask again for the others."""
        for trial in self.study.get_trials(deepcopy=False):
            known = trial.user_attrs.get(RECIPE)
            if trial.state == TrialState.COMPLETE and known not in self.records:
                raise RunError(
                    f"{self.directory.trials / f'{known}.json'} is missing, though the study has its result."
                )
            if trial.state != TrialState.RUNNING:
                continue
            if known in self.records:
                self._tell(trial.number, self.records[known])
            else:
                self.study.tell(trial.number, state=TrialState.FAIL)
                self.study.enqueue_trial({**trial.system_attrs.get("fixed_params", {}), **trial.params})

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


def _storage(path: Path) -> optuna.storages.RDBStorage:
    """SQLite that does not wait for the disk at every commit: the result files are what must survive a power cut.

    Optuna commits once per parameter; with a wait each time, asking for 30 parameters takes most of a second.
    """

    def connect() -> sqlite3.Connection:
        connection = sqlite3.connect(path, timeout=60, check_same_thread=False)
        connection.execute("PRAGMA journal_mode=WAL")
        connection.execute("PRAGMA synchronous=NORMAL")
        return connection

    return optuna.storages.RDBStorage(f"sqlite:///{path}", engine_kwargs={"creator": connect})
