"""The ledger: what was scored is never lost, never asked twice, and nothing stays running after a kill."""

import random
import subprocess
import sys
import time
from pathlib import Path

import optuna
import pytest
from optuna.trial import TrialState

from autoprune.errors import RunError
from autoprune.pareto import objectives
from autoprune.strategies import strategies
from autoprune.study import Ledger, RunDirectory
from tests.study.toy import SEED, SPACE, TRIALS, drive, open_ledger, toy_record

TWO = objectives(("accuracy", "latency_ms"))


def states(directory: RunDirectory) -> set[TrialState]:
    study = optuna.load_study(study_name="autoprune", storage=f"sqlite:///{directory.study}")
    return {trial.state for trial in study.get_trials()}


@pytest.mark.parametrize("name", [one.name for one in strategies()])
def test_the_same_seed_gives_the_same_recipes(tmp_path: Path, name: str) -> None:
    orders = []
    for run in "ab":
        directory = RunDirectory.create(tmp_path / run)
        drive(directory, strategy=name)
        orders.append(open_ledger(directory).order)
    assert orders[0] == orders[1]
    assert len(orders[0]) == TRIALS


@pytest.mark.parametrize("name", [one.name for one in strategies()])
def test_an_interrupted_run_gives_the_recipes_of_an_uninterrupted_one(tmp_path: Path, name: str) -> None:
    whole, parts = RunDirectory.create(tmp_path / "whole"), RunDirectory.create(tmp_path / "parts")
    drive(whole, strategy=name)
    for trials in (1, 4, 15, TRIALS):
        drive(parts, strategy=name, trials=trials)
    assert set(open_ledger(parts).order) == set(open_ledger(whole).order)


def test_a_trial_left_running_is_asked_again(tmp_path: Path) -> None:
    directory = RunDirectory.create(tmp_path / "run")
    left = open_ledger(directory).ask(optuna.samplers.RandomSampler(seed=SEED))
    ledger = open_ledger(directory)
    assert TrialState.RUNNING not in states(directory)
    assert ledger.ask(optuna.samplers.RandomSampler(seed=99)).recipe == left.recipe


def test_a_saved_record_is_told_after_a_kill_before_the_study_knew(tmp_path: Path) -> None:
    directory = RunDirectory.create(tmp_path / "run")
    question = open_ledger(directory).ask(optuna.samplers.RandomSampler(seed=SEED))
    directory.save(toy_record(question.recipe))
    ledger = open_ledger(directory)
    assert states(directory) == {TrialState.COMPLETE}
    assert ledger.order == [question.recipe.id]


def test_a_lost_record_is_named(tmp_path: Path) -> None:
    directory = RunDirectory.create(tmp_path / "run")
    drive(directory, trials=3)
    lost = next(iter(directory.trials.iterdir()))
    lost.unlink()
    with pytest.raises(RunError, match=f"{lost.name} is missing"):
        open_ledger(directory)


def test_a_corrupted_study_is_named(tmp_path: Path) -> None:
    directory = RunDirectory.create(tmp_path / "run")
    directory.study.write_bytes(b"this is not a database" * 100)
    with pytest.raises(RunError, match=r"study\.db is corrupted"):
        Ledger(directory, TWO, SPACE.suggest)


@pytest.mark.slow
def test_kills_at_random_lose_nothing_and_repeat_nothing(tmp_path: Path) -> None:
    directory = RunDirectory.create(tmp_path / "run")
    chance = random.Random(7)
    for _ in range(6):
        driver = subprocess.Popen(
            [sys.executable, "-m", "tests.study.toy", str(directory.root)], stdout=subprocess.PIPE
        )
        assert driver.stdout is not None
        driver.stdout.readline()
        time.sleep(chance.uniform(0.02, 0.5))
        driver.kill()
        driver.wait()
        driver.stdout.close()
    drive(directory)
    tried = (directory.root / "tried.txt").read_text().split()
    records = directory.records()
    assert len(records) == TRIALS
    assert TrialState.RUNNING not in states(directory)
    finished = {name for name in tried if tried.count(name) == 1}
    repeated = [name for name in set(tried) if tried.count(name) > 1]
    assert len(repeated) <= 6, "only the recipe in hand when the driver was killed may be tried again"
    assert finished | set(repeated) == set(records)
