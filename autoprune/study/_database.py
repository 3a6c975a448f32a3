"""``study.db``: the study in the tables of Optuna's ``RDBStorage``, so that Optuna and its dashboard open it.

Optuna's own code makes and checks the tables. Trials go in and out by plain SQL: with 33 parameters Optuna writes a
trial in a hundred statements (25 ms at best), and reads 10,000 trials in 10 s; this takes about 1 ms and 0.2 s.
"""

import json
import logging
import sqlite3
from collections import defaultdict
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from functools import cache
from pathlib import Path
from typing import Any

import optuna
from optuna.distributions import BaseDistribution, distribution_to_json, json_to_distribution
from optuna.study import StudyDirection
from optuna.trial import FrozenTrial, TrialState

NAME = "autoprune"
PARAMS = "SELECT param_name, param_value, distribution_json FROM trial_params WHERE trial_id = ? ORDER BY param_id"
VALUES = "SELECT trial_id, objective, value FROM trial_values JOIN trials USING (trial_id) WHERE study_id = ?"
USER = "SELECT trial_id, key, value_json FROM trial_user_attributes JOIN trials USING (trial_id) WHERE study_id = ?"
SYSTEM = "SELECT trial_id, key, value_json FROM trial_system_attributes JOIN trials USING (trial_id) WHERE study_id = ?"
TRIALS = "SELECT trial_id, number, state FROM trials WHERE study_id = ? ORDER BY number"
NOTES = "SELECT key, value_json FROM study_system_attributes WHERE study_id = ?"

NEW = "INSERT INTO trials (number, study_id, state, datetime_start) VALUES (?, ?, ?, ?)"
STATE = "UPDATE trials SET state = ?, datetime_complete = ? WHERE trial_id = ?"
PARAM = "INSERT OR IGNORE INTO trial_params (trial_id, param_name, param_value, distribution_json) VALUES (?, ?, ?, ?)"
VALUE = "INSERT OR IGNORE INTO trial_values (trial_id, objective, value, value_type) VALUES (?, ?, ?, 'FINITE')"
OF_USER = "INSERT OR IGNORE INTO trial_user_attributes (trial_id, key, value_json) VALUES (?, ?, ?)"
OF_SYSTEM = "INSERT OR IGNORE INTO trial_system_attributes (trial_id, key, value_json) VALUES (?, ?, ?)"
NOTE = "INSERT OR REPLACE INTO study_system_attributes (study_id, key, value_json) VALUES (?, ?, ?)"


class Database:
    """The study file at ``path``; what goes wrong with it is an error of SQLAlchemy or Optuna."""

    def __init__(self, path: Path, directions: Sequence[StudyDirection]) -> None:
        # it logs what it raises as well: a Ctrl-C while it tidies up would be a traceback on the terminal
        logging.getLogger("sqlalchemy.pool").setLevel(logging.CRITICAL)
        self._storage = optuna.storages.RDBStorage(
            f"sqlite:///{path}", engine_kwargs={"creator": lambda: _connected(path)}
        )
        optuna.create_study(study_name=NAME, storage=self._storage, directions=directions, load_if_exists=True)
        self._study = self._storage.get_study_id_from_name(NAME)
        self._storage.scoped_session.remove()
        self._ids: dict[int, int] = {number: trial for trial, number, _ in self._select(TRIALS)}

    def close(self) -> None:
        """Let go of the file, so that what is in the write-ahead log is in it."""
        self._storage.engine.dispose()

    def trials(self) -> list[FrozenTrial]:
        """All trials, by number; without their times, and without their parameters until `complete` is called."""
        values = defaultdict[int, dict[int, float]](dict)
        for trial, objective, value in self._select(VALUES):
            values[trial][objective] = value
        user, system = self._attributes(USER), self._attributes(SYSTEM)
        return [
            FrozenTrial(
                number=number,
                trial_id=number,
                state=TrialState[state],
                value=None,
                values=[value for _, value in sorted(values[trial].items())] or None,
                params={},
                distributions={},
                user_attrs=user[trial],
                system_attrs=system[trial],
                intermediate_values={},
                datetime_start=None,
                datetime_complete=None,
            )
            for trial, number, state in self._select(TRIALS)
        ]

    def complete(self, trials: Iterable[FrozenTrial]) -> None:
        """Give these their parameters."""
        with self._storage.engine.connect() as connection:
            for trial in trials:
                known = {}
                for name, value, text in connection.exec_driver_sql(PARAMS, (self._ids[trial.number],)):
                    known[name] = _distribution(text)
                    trial.params[name] = known[name].to_external_repr(value)
                trial.distributions = known

    def study_attributes(self) -> dict[str, Any]:
        """What samplers noted of the study."""
        return {key: json.loads(text) for key, text in self._select(NOTES)}

    def put(self, trial: FrozenTrial, study_attributes: Iterable[tuple[str, Any]] = ()) -> None:
        """Write a trial and notes of the study in one transaction; what the file has of it already stays."""
        state, now = trial.state.name, datetime.now(UTC).strftime("%Y-%m-%d %H:%M:%S.%f")
        with self._storage.engine.begin() as connection:
            run = connection.exec_driver_sql
            if (known := self._ids.get(trial.number)) is None:
                known = run(NEW, (trial.number, self._study, state, now)).lastrowid
            run(STATE, (state, now if trial.state.is_finished() else None, known))
            for statement, rows in _rows(trial):
                if rows:
                    run(statement, [(known, *row) for row in rows])
            for key, value in study_attributes:
                run(NOTE, (self._study, key, json.dumps(value)))
        self._ids[trial.number] = known

    def _select(self, statement: str) -> list[Any]:
        with self._storage.engine.connect() as connection:
            return list(connection.exec_driver_sql(statement, (self._study,)).all())

    def _attributes(self, statement: str) -> defaultdict[int, dict[str, Any]]:
        found: defaultdict[int, dict[str, Any]] = defaultdict(dict)
        for trial, key, text in self._select(statement):
            found[trial][key] = json.loads(text)
        return found


def _rows(trial: FrozenTrial) -> list[tuple[str, list[tuple[Any, ...]]]]:
    """Statements that insert all that a trial holds, and their rows without the trial's id."""
    params = [
        (name, how.to_internal_repr(trial.params[name]), distribution_to_json(how))
        for name, how in trial.distributions.items()
    ]
    return [
        (PARAM, params),
        (VALUE, list(enumerate(trial.values or ()))),
        (OF_USER, [(key, json.dumps(value)) for key, value in trial.user_attrs.items()]),
        (OF_SYSTEM, [(key, json.dumps(value)) for key, value in trial.system_attrs.items()]),
    ]


@cache
def _distribution(text: str) -> BaseDistribution:
    return json_to_distribution(text)


def _connected(path: Path) -> sqlite3.Connection:
    """SQLite that does not wait for the disk at every commit: the result files are what must survive a power cut."""
    connection = sqlite3.connect(path, timeout=60, check_same_thread=False)
    connection.execute("PRAGMA journal_mode=WAL")
    connection.execute("PRAGMA synchronous=NORMAL")
    return connection
