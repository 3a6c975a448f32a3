"""What counts in a search with goals."""

from pathlib import Path

import pytest

from autoprune.pareto import Goals, hypervolume
from autoprune.recipe import DENSE
from autoprune.records import TrialRecord
from autoprune.strategies._box import Box
from autoprune.study import RunDirectory
from tests.study.toy import drive, open_ledger

DENSE_MS = 4.0


def box(dense: float = 0.9, **goals: float) -> Box:
    return Box.of(Goals(**goals), dense=dense, dense_ms=DENSE_MS)


def test_without_goals_all_that_is_of_use() -> None:
    assert box() == Box(least=pytest.approx(0.765), most=0.9, fastest=0.0, slowest=1.0)


def test_an_accuracy_goal_is_inside() -> None:
    assert box(max_accuracy_drop=0.04) == Box(least=pytest.approx(0.84), most=pytest.approx(0.88))
    assert box(max_accuracy_drop=0.01) == Box(least=pytest.approx(0.881), most=pytest.approx(0.899))


def test_no_drop_at_all_still_leaves_something_to_look_for() -> None:
    assert box(max_accuracy_drop=0.0) == Box(least=pytest.approx(0.891), most=0.9)
    assert box(dense=-2.0, max_accuracy_drop=0.0) == Box(least=pytest.approx(-2.02), most=-2.0)


def test_a_user_who_allows_much_gets_much() -> None:
    assert box(max_accuracy_drop=0.5).least < 0.4


def test_speed_goals_are_the_slow_edge() -> None:
    fast = box(min_speedup=4.0)
    assert (fast.fastest, fast.slowest, fast.most) == (0.225, 0.25, 0.9)
    assert box(max_latency_ms=1.0) == fast
    assert box(max_latency_ms=1.0, min_speedup=5.0).slowest == 0.2
    assert box(min_speedup=0.5) == box()


def test_of_two_kinds_the_fastest_within_the_accuracy_is_wanted() -> None:
    both = box(min_speedup=4.0, max_accuracy_drop=0.04)
    assert (both.fastest, both.slowest, both.least) == (0.0, 0.25, pytest.approx(0.84))


def found(tmp_path: Path, goals: Goals, *, trials: int) -> list[TrialRecord]:
    directory = RunDirectory.create(tmp_path / goals.model_dump_json().translate(str.maketrans("{}:,", "----")))
    drive(directory, strategy="guided", trials=trials, goals=goals)
    return list(open_ledger(directory).records.values())


@pytest.mark.parametrize("trials", [10, 13, 16, 30])
def test_the_fastest_within_an_accuracy_goal_is_found_sooner(tmp_path: Path, trials: int) -> None:
    """On average over three goals: of a single one, a search may be a width ahead by chance."""

    def fastest(records: list[TrialRecord], goals: Goals) -> float:
        dense = next(one.score for one in records if one.recipe == DENSE)
        assert dense
        return max(one.score.speedup for one in records if one.score and goals.meets(one.score, dense))

    wanted = [Goals(max_accuracy_drop=drop) for drop in (0.005, 0.02, 0.05)]
    anywhere = found(tmp_path, Goals(), trials=trials)
    told = sum(fastest(found(tmp_path, goals, trials=trials), goals) for goals in wanted)
    assert told > sum(fastest(anywhere, goals) for goals in wanted)


@pytest.mark.parametrize("speedup", [4.0, 7.0])
def test_the_most_accurate_that_is_fast_enough_is_found_sooner(tmp_path: Path, speedup: float) -> None:
    def best(records: list[TrialRecord]) -> float:
        return max(one.score.accuracy for one in records if one.score and one.score.speedup >= speedup)

    goals = Goals(min_speedup=speedup)
    assert best(found(tmp_path, goals, trials=16)) > best(found(tmp_path, Goals(), trials=16))


def test_the_rest_of_the_front_is_looked_for_all_the_same(tmp_path: Path) -> None:
    def volume(records: list[TrialRecord]) -> float:
        return hypervolume(
            [(1 - one.score.accuracy, 1 / one.score.speedup) for one in records if one.score], (0.3, 1.0)
        )

    without = volume(found(tmp_path, Goals(), trials=24))
    assert volume(found(tmp_path, Goals(max_accuracy_drop=0.005), trials=24)) > 0.99 * without
