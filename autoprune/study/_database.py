"""``study.db``: the study in the tables of Optuna's ``RDBStorage``, so that Optuna and its dashboard open it.

Optuna's own code makes and checks the tables. Trials go in and out by plain SQL: with 33 parameters Optuna writes a
trial in a hundred statements (25 ms at best), and reads 10,000 trials in 10 s; this takes about 1 ms and 1 s.
"""

import json
import sqlite3
from collections import defaultdict
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from functools import cache
from pathlib import Path
from typing import Any

import optuna
from optuna.distributions import BaseDistribution, distribution_to_json, json_to_distribution
from optuna.trial import FrozenTrial, TrialState

NAME = "autoprune"
OF_STUDY = "trial_id IN (SELECT trial_id FROM trials WHERE study_id = ?)"


class Database:
    """The study file at ``path``; what goes wrong with it is an error of SQLAlchemy or Optuna."""

    def __init__(self, path: Path, directions: Sequence[str]) -> None:
        self._storage = optuna.storages.RDBStorage(
            f"sqlite:///{path}", engine_kwargs={"creator": lambda: _connected(path)}
        )
        optuna.create_study(study_name=NAME, storage=self._storage, directions=directions, load_if_exists=True)
        self._study = self._storage.get_study_id_from_name(NAME)
        self._storage.scoped_session.remove()
        rows = self._select("SELECT number, trial_id FROM trials WHERE study_id = ?")
        self._ids: dict[int, int] = dict(rows)

    def close(self) -> None:
        """Let go of the file, so that what is in the write-ahead log is in it."""
        self._storage.engine.dispose()

    def trials(self) -> list[FrozenTrial]:
        """All trials, by number; without their times."""
        values, params, distributions = (defaultdict[int, dict[Any, Any]](dict) for _ in range(3))
        for trial, objective, value in self._of_trials("objective, value", "trial_values"):
            values[trial][objective] = value
        columns = "param_name, param_value, distribution_json"
        for trial, name, value, text in self._of_trials(columns, "trial_params", order="param_id"):
            distributions[trial][name] = _distribution(text)
            params[trial][name] = distributions[trial][name].to_external_repr(value)
        user, system = self._attributes("user"), self._attributes("system")
        rows = self._select("SELECT trial_id, number, state FROM trials WHERE study_id = ? ORDER BY number")
        return [
            FrozenTrial(
                number=number,
                trial_id=number,
                state=TrialState[state],
                value=None,
                values=[value for _, value in sorted(values[trial].items())] or None,
                params=params[trial],
                distributions=distributions[trial],
                user_attrs=user[trial],
                system_attrs=system[trial],
                intermediate_values={},
                datetime_start=None,
                datetime_complete=None,
            )
            for trial, number, state in rows
        ]

    def study_attributes(self) -> dict[str, Any]:
        """What samplers noted of the study."""
        rows = self._select("SELECT key, value_json FROM study_system_attributes WHERE study_id = ?")
        return {key: json.loads(text) for key, text in rows}

    def put(self, trial: FrozenTrial, study_attributes: Iterable[tuple[str, Any]] = ()) -> None:
        """Write a trial and notes of the study in one transaction; what the file has of it already stays."""
        state, now = trial.state.name, datetime.now(UTC).strftime("%Y-%m-%d %H:%M:%S.%f")
        with self._storage.engine.begin() as connection:

            run = connection.exec_driver_sql
            if (known := self._ids.get(trial.number)) is None:
                made = "INSERT INTO trials (number, study_id, state, datetime_start) VALUES (?, ?, ?, ?)"
                known = run(made, (trial.number, self._study, state, now)).lastrowid
            ended = now if trial.state.is_finished() else None
            run("UPDATE trials SET state = ?, datetime_complete = ? WHERE trial_id = ?", (state, ended, known))
            for table, columns, rows in _rows(trial):
                if rows:
                    marks = ", ".join("?" * (1 + len(columns.split(","))))
                    run(f"INSERT OR IGNORE INTO {table} (trial_id, {columns}) VALUES ({marks})", [(known, *r) for r in rows])
            for key, value in study_attributes:
                noted = "INSERT OR REPLACE INTO study_system_attributes (study_id, key, value_json) VALUES (?, ?, ?)"
                run(noted, (self._study, key, json.dumps(value)))
        self._ids[trial.number] = known

    def _select(self, statement: str) -> list[Any]:
        with self._storage.engine.connect() as connection:
            return list(connection.exec_driver_sql(statement, (self._study,)).all())

    def _of_trials(self, columns: str, table: str, *, order: str = "trial_id") -> list[Any]:
        return self._select(f"SELECT trial_id, {columns} FROM {table} WHERE {OF_STUDY} ORDER BY {order}")

    def _attributes(self, whose: str) -> defaultdict[int, dict[str, Any]]:
        found: defaultdict[int, dict[str, Any]] = defaultdict(dict)
        for trial, key, text in self._of_trials("key, value_json", f"trial_{whose}_attributes"):
            found[trial][key] = json.loads(text)
        return found


def _rows(trial: FrozenTrial) -> list[tuple[str, str, list[tuple[Any, ...]]]]:
    """Table, columns and rows of all that a trial holds."""
    params = [
        (name, how.to_internal_repr(trial.params[name]), distribution_to_json(how))
        for name, how in trial.distributions.items()
    ]
    values = [(n, value, "FINITE") for n, value in enumerate(trial.values or ())]
    return [
        ("trial_params", "param_name, param_value, distribution_json", params),
        ("trial_values", "objective, value, value_type", values),
        ("trial_user_attributes", "key, value_json", [(k, json.dumps(v)) for k, v in trial.user_attrs.items()]),
        ("trial_system_attributes", "key, value_json", [(k, json.dumps(v)) for k, v in trial.system_attrs.items()]),
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
