"""What is written past Optuna is read by Optuna, and what it shows samplers is bounded."""

import sqlite3
import subprocess
import sys
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path

import numpy as np
import optuna
import pytest
from optuna.study import StudyDirection
from optuna.trial import FrozenTrial, TrialState

from autoprune.study._database import Database
from autoprune.study._memory import BEST, LATEST, SEEN, Memory, ranked
from autoprune.study.directory import RunDirectory
from tests.study.toy import drive, open_ledger, open_search, toy_record

TWO = [StudyDirection.MAXIMIZE, StudyDirection.MINIMIZE]


def by_optuna(path: Path) -> optuna.Study:
    return optuna.load_study(study_name="autoprune", storage=f"sqlite:///{path}")


def whole(database: Database) -> list[FrozenTrial]:
    trials = database.trials()
    database.complete(trials)
    return trials


def facts(trial: FrozenTrial) -> tuple[object, ...]:
    values = trial.values if trial.state == TrialState.COMPLETE else None
    return trial.number, trial.state, values, trial.params, trial.distributions, trial.user_attrs, trial.system_attrs


def answered(n: int, state: TrialState) -> FrozenTrial:
    study = optuna.create_study(directions=TWO, sampler=optuna.samplers.RandomSampler(seed=n))
    study.enqueue_trial({"ü/keep": 3})
    trial = study.ask()
    trial.suggest_int("ü/keep", 0, 7)
    trial.suggest_float("budget", 0.1, 1.0, log=True)
    trial.suggest_categorical("how", ["none", "lstsq+bn"])
    trial.set_user_attr("recipe", f"{n:x}")
    study.tell(trial, [0.1 * n, 1 / 3] if state == TrialState.COMPLETE else None, state=state)
    found = study.get_trials()[0]
    found.number = n
    return found


def test_optuna_reads_what_is_written_past_it(tmp_path: Path) -> None:
    database = Database(tmp_path / "study.db", TWO)
    trials = [answered(n, s) for n, s in enumerate((TrialState.COMPLETE, TrialState.FAIL, TrialState.PRUNED))]
    running = answered(3, TrialState.FAIL)
    running.state = TrialState.RUNNING
    for trial in (*trials, running):
        database.put(trial, [("noted", [1, trial.number])])
    study = by_optuna(tmp_path / "study.db")
    assert [facts(trial) for trial in study.get_trials()] == [facts(trial) for trial in (*trials, running)]
    assert [trial.datetime_complete is None for trial in study.get_trials()] == [False] * 3 + [True]
    assert len(study.best_trials) == 1
    study.tell(3, [0.5, 0.5])  # Optuna can go on with it
    opened = Database(tmp_path / "study.db", TWO)
    assert [facts(trial) for trial in whole(opened)] == [facts(trial) for trial in study.get_trials()]
    assert opened.study_attributes() == {"noted": [1, 3]}


def test_a_study_that_optuna_wrote_is_read(tmp_path: Path) -> None:
    study = optuna.create_study(study_name="autoprune", storage=f"sqlite:///{tmp_path / 'study.db'}", directions=TWO)
    study.add_trials([answered(0, TrialState.COMPLETE), answered(1, TrialState.FAIL)])
    database = Database(tmp_path / "study.db", TWO)
    assert [facts(trial) for trial in whole(database)] == [facts(trial) for trial in study.get_trials()]


def test_a_question_is_in_the_file_as_soon_as_it_is_asked(tmp_path: Path) -> None:
    directory = RunDirectory.create(tmp_path / "run")
    search = open_search()
    ledger = open_ledger(directory, search)
    question = ledger.ask(search.sampler(0))
    assert [trial.state for trial in by_optuna(directory.study).get_trials()] == [TrialState.RUNNING]
    ledger.tell(question, toy_record(question.recipe))
    assert [trial.state for trial in by_optuna(directory.study).get_trials()] == [TrialState.COMPLETE]


def test_a_study_that_lags_behind_the_records_catches_up(tmp_path: Path) -> None:
    """After a power cut the last commits may be gone, the records are not."""
    directory = RunDirectory.create(tmp_path / "run")
    drive(directory, strategy="nsga2")
    order = open_ledger(directory).order
    with sqlite3.connect(directory.study) as connection:
        for table in ("trial_params", "trial_values", "trial_user_attributes", "trial_system_attributes", "trials"):
            connection.execute(f"DELETE FROM {table} WHERE trial_id > 20")
        connection.execute("DELETE FROM study_system_attributes")  # none was there before NSGA-II's second generation
    connection.close()
    stamps = {path: path.stat().st_mtime_ns for path in directory.trials.iterdir()}
    search = open_search("nsga2")
    ledger = open_ledger(directory, search)
    ledger.enqueue(search.seeds())
    while len(ledger.order) < len(order):
        question = ledger.ask(search.sampler(ledger.answered))
        ledger.tell(question, ledger.records[question.recipe.id])
    assert ledger.order == order
    assert {path: path.stat().st_mtime_ns for path in directory.trials.iterdir()} == stamps


def scored(count: int) -> list[FrozenTrial]:
    rng = np.random.default_rng(0)
    states = [TrialState.COMPLETE if chance < 0.9 else TrialState.PRUNED for chance in rng.random(count)]
    return [
        optuna.trial.create_trial(state=state, values=rng.random(2).tolist() if state == TrialState.COMPLETE else None)
        for state in states
    ]


def shown(memory: Memory) -> list[int]:
    return [trial.number for trial in memory.get_all_trials(0, deepcopy=False)]


def told(trials: Sequence[FrozenTrial]) -> tuple[Memory, list[list[int]]]:
    memory = Memory(TWO)
    study = optuna.create_study(storage=memory, directions=TWO)
    seen = []
    for trial in trials:
        asked = study.ask()
        study.tell(asked, trial.values, state=trial.state)
        seen.append(shown(memory))
    return memory, seen


def test_samplers_are_shown_all_then_the_best_and_the_latest() -> None:
    trials = scored(900)
    memory, seen = told(trials)
    assert all(numbers == list(range(len(numbers))) for numbers in seen[:SEEN])
    assert max(map(len, seen)) == SEEN
    assert all(numbers[-LATEST:] == list(range(n + 1 - LATEST, n + 1)) for n, numbers in enumerate(seen) if n > SEEN)
    assert any(len(after) < len(before) for before, after in pairwise(seen))
    costs = np.array([[-t.values[0], t.values[1]] if t.values else [9, 9] for t in trials[:800]])
    front = [n for n, c in enumerate(costs) if not ((costs <= c).all(1) & (costs < c).any(1)).any()]
    assert set(front) <= set(seen[-1])
    assert len(memory.get_all_trials(0, states=(TrialState.COMPLETE,))) < len(seen[-1])


@pytest.mark.parametrize("count", [10, SEEN, SEEN + 1, 600])
def test_opening_again_shows_the_same(count: int) -> None:
    trials = scored(count)
    memory = Memory(TWO)
    study = optuna.create_study(storage=memory, directions=TWO)
    memory.fill(0, trials, complete=lambda shown: None)
    assert shown(memory) == told(trials)[1][-1]
    assert study.ask().number == count


def test_the_least_dominated_come_first_then_the_least_crowded() -> None:
    costs = np.array([[0, 4], [1, 3], [1.1, 2.9], [4, 0], [5, 5], [1.5, 3.5]])
    order = ranked(costs)
    assert set(order[:2]) == {0, 3}
    assert order[4:] == [5, 4]
    assert ranked(np.empty((0, 2))) == []
    assert BEST + LATEST < SEEN


def test_ctrl_c_while_a_connection_is_given_back_is_no_traceback(tmp_path: Path) -> None:
    code = (
        "import sys; from pathlib import Path; from optuna.study import StudyDirection; from sqlalchemy import event\n"
        "from autoprune.study._database import Database\n"
        "database = Database(Path(sys.argv[1]), [StudyDirection.MAXIMIZE])\n"
        "def stop(*given): raise KeyboardInterrupt\n"
        "event.listen(database._storage.engine, 'reset', stop)\n"
        "try: database.trials()\n"
        "except KeyboardInterrupt: print('stopped')\n"
        "event.remove(database._storage.engine, 'reset', stop)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, tmp_path / "study.db"], capture_output=True, text=True, check=False
    )
    assert done.stdout == "stopped\n"
    assert "Traceback" not in done.stderr
