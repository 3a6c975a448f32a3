"""Fronts beyond the noise, hypervolume against an oracle, goals, and the model to recommend."""

import itertools
import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from autoprune.errors import UsageError
from autoprune.pareto import (
    OBJECTIVES,
    Goals,
    best,
    cheapest,
    dominates,
    front,
    hypervolume,
    interval,
    normalised,
    objectives,
    value,
)
from autoprune.records import Failure, Score, TrialRecord
from tests.factories import DENSE_MS, FAILURES, recipe, record, score, search_records

TWO = objectives(("accuracy", "latency_ms"))
THREE = objectives(("latency_ms", "size_bytes", "accuracy"))

scores = st.builds(
    score,
    st.sampled_from([0.80, 0.85, 0.9, 0.91, 0.92]),
    st.floats(0.5, 3.0),
    noise=st.sampled_from([0.001, 0.01, 0.1]),
    size=st.sampled_from([1000, 2000, 3000]),
)
some_scores = st.lists(scores, min_size=1, max_size=14)
overs = st.sampled_from([TWO, THREE])


def records(found: list[Score]) -> list[TrialRecord]:
    return [record(one, recipe=recipe(n)) for n, one in enumerate(found)]


def front_of(*found: Score) -> list[Score]:
    return [member.score for member in front(records(list(found)), TWO) if member.score]


def test_a_slower_model_with_less_accuracy_is_out() -> None:
    good, bad = score(0.92, 1.0), score(0.91, 1.2)
    assert front_of(bad, good) == [good]


def test_a_latency_within_the_noise_decides_nothing() -> None:
    one, other = score(0.92, 1.000, noise=0.01), score(0.92, 1.012, noise=0.01)
    assert front_of(one, other) == [one, other]
    apart = score(0.92, 1.03, noise=0.01)
    assert front_of(one, apart) == [one]


def test_less_accuracy_for_a_gain_within_the_noise_is_out() -> None:
    good, bad = score(0.92, 1.000, noise=0.01), score(0.90, 0.999, noise=0.01)
    assert front_of(bad, good) == [good]


def test_a_chain_of_near_ties_keeps_a_true_trade_off() -> None:
    slow, middle, fast = (score(0.93 - n / 100, 1.0 - 0.015 * n, noise=0.01) for n in range(3))
    assert front_of(slow, middle, fast) == [fast, slow]


def test_latencies_compare_on_a_machine_that_drifted() -> None:
    early, late = score(0.92, 1.00), score(0.92, 1.05, reference_ms=1.1 * DENSE_MS)
    assert front_of(early, late) == [late]
    assert value(late, OBJECTIVES["latency_ms"]) == pytest.approx(1 / late.speedup)


def test_failures_are_on_no_front() -> None:
    assert front([record(FAILURES[0])], TWO) == []


def test_the_dense_model_competes() -> None:
    members = front(search_records(), TWO)
    better = record(score(0.99, 0.1), recipe=recipe(99))
    assert front([*members, better], TWO) == [better]
    assert front([record(score(0.5, 3.0), recipe=recipe(1)), record(score())], TWO) == [record(score())]


@given(some_scores, overs)
def test_no_member_dominates_another(found: list[Score], over: tuple) -> None:
    members = front(records(found), over)
    assert members
    for one, other in itertools.permutations(members, 2):
        assert not dominates(one.score, other.score, over)


@given(some_scores, overs)
def test_every_outsider_is_dominated_by_a_member(found: list[Score], over: tuple) -> None:
    everyone = records(found)
    members = front(everyone, over)
    for outsider in everyone:
        assert outsider in members or any(dominates(m.score, outsider.score, over) for m in members)


@given(some_scores)
def test_no_member_is_slower_beyond_noise_than_anyone_as_accurate(found: list[Score]) -> None:
    everyone = records(found)
    for member, other in itertools.product(front(everyone, TWO), everyone):
        slower = interval(member.score, TWO[1])[0] > interval(other.score, TWO[1])[2]
        assert not (slower and other.score.accuracy >= member.score.accuracy)


@given(some_scores, overs, st.randoms())
def test_the_order_of_the_records_does_not_matter(found: list[Score], over: tuple, chance: random.Random) -> None:
    everyone = records(found)
    shuffled = chance.sample(everyone, len(everyone))
    assert front(shuffled, over) == front(everyone, over)


@given(some_scores, scores, overs)
def test_a_record_that_a_member_dominates_changes_nothing(found: list[Score], extra: Score, over: tuple) -> None:
    members = front(records(found), over)
    if any(dominates(member.score, extra, over) for member in members):
        assert front([*records(found), record(extra, recipe=recipe(99))], over) == members


@given(some_scores)
def test_a_front_is_in_the_order_of_latency(found: list[Score]) -> None:
    speeds = [member.score.speedup for member in front(records(found), TWO)]
    assert speeds == sorted(speeds, reverse=True)


def cells(points: list[tuple[int, ...]], dimensions: int) -> int:
    """Unit cells of the grid 0..8 that a point dominates: the hypervolume of points with integer coordinates."""
    corners = itertools.product(range(8), repeat=dimensions)
    return sum(any(all(p <= c for p, c in zip(point, corner, strict=True)) for point in points) for corner in corners)


@settings(deadline=None)
@given(st.integers(2, 3).flatmap(lambda d: st.lists(st.tuples(*[st.integers(0, 9)] * d), max_size=8)))
def test_the_hypervolume_counts_the_cells(points: list[tuple[int, ...]]) -> None:
    dimensions = len(points[0]) if points else 2
    assert hypervolume(points, [8] * dimensions) == cells(points, dimensions)


@given(st.lists(st.tuples(*[st.floats(0, 1)] * 3), max_size=10))
def test_the_hypervolume_grows_with_points_and_stays_in_the_box(points: list[tuple[float, ...]]) -> None:
    part, whole = hypervolume(points[1:], (1, 1, 1)), hypervolume(points, (1, 1, 1))
    assert 0 <= part <= whole + 1e-12 <= 1 + 2e-12


def test_the_dense_model_alone_has_no_hypervolume() -> None:
    dense = score()
    assert normalised(dense, dense, TWO) == pytest.approx((0.07, 1.0))
    assert hypervolume([normalised(dense, dense, TWO)], (1, 1)) == 0
    half = score(0.9, DENSE_MS / 2)
    assert hypervolume([normalised(half, dense, TWO)], (1, 1)) == pytest.approx(0.45)


@pytest.mark.parametrize(
    ("names", "message"),
    [
        (("accuracy", "speed"), "Unknown objective 'speed'"),
        (("accuracy",), "two or three"),
        (("accuracy", "accuracy"), "different"),
        (("accuracy", "latency_ms", "macs", "parameters"), "two or three"),
        ((), "not none"),
    ],
)
def test_objectives_that_make_no_search(names: tuple[str, ...], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        objectives(names)


def test_what_was_not_measured_is_named() -> None:
    unmeasured = score().model_copy(update={"peak_memory_bytes": None})
    with pytest.raises(UsageError, match="peak_memory_bytes"):
        value(unmeasured, OBJECTIVES["peak_memory_bytes"])


DENSE_SCORE = score(0.93)


def test_goals_that_are_met_at_their_limit() -> None:
    goals = Goals(max_accuracy_drop=0.01, max_latency_ms=1.0, min_speedup=2.304)
    at_the_limit = score(0.92, 1.0)
    assert goals.meets(at_the_limit, DENSE_SCORE)
    assert goals.misses(at_the_limit, DENSE_SCORE) == []
    assert Goals().meets(score(0.1, 9.0), DENSE_SCORE)


def test_goals_say_by_how_much_they_are_missed() -> None:
    goals = Goals(max_accuracy_drop=0.01, max_latency_ms=0.5, min_speedup=3)
    assert goals.misses(score(0.917, 1.0), DENSE_SCORE) == [
        "loses 1.30 points of accuracy, 0.30 more than the 1 allowed",
        "takes 1 ms, 0.5 ms more than allowed",
        "is 2.30x as fast as the dense model, not 3x",
    ]


def test_the_best_model_is_the_fastest_within_the_accuracy_or_the_most_accurate_within_the_latency() -> None:
    members = records([score(0.93, 2.0), score(0.925, 1.0), score(0.92, 0.9), score(0.80, 0.5)])

    def chosen(**goals: float) -> TrialRecord:
        return best(members, TWO, goals=Goals(**goals), dense=DENSE_SCORE)

    assert chosen(max_accuracy_drop=0.01) == members[2]
    assert chosen(max_latency_ms=1.0) == members[1]
    assert chosen(max_accuracy_drop=0.01, min_speedup=2.0) == members[2]
    assert chosen(max_accuracy_drop=0.01, min_speedup=2.7) == members[2], "nothing meets both: the nearest"


def compressed(*found: Score) -> list[TrialRecord]:
    """Records of models that are cut, or in another precision; the dense one is none of them."""
    return [record(one, recipe=recipe(n)) for n, one in enumerate(found, 1)]


def test_without_goals_it_is_the_fastest_that_keeps_99_per_cent_of_the_accuracy() -> None:
    members = compressed(score(0.93, 2.0), score(0.9207, 1.0), score(0.9206, 0.9), score(0.80, 0.5))
    assert best(members, TWO, goals=Goals(), dense=DENSE_SCORE) == members[1]
    assert best([record(DENSE_SCORE), *members], TWO, goals=Goals(), dense=DENSE_SCORE) == members[1]


def test_without_goals_the_first_cost_of_the_objectives_decides() -> None:
    small, fast = members = compressed(score(0.925, 2.0, size=1000), score(0.925, 1.0, size=2000))
    assert cheapest(members, objectives(("accuracy", "size_bytes")), dense=DENSE_SCORE) == small
    assert cheapest(members, objectives(("accuracy", "latency_ms", "size_bytes")), dense=DENSE_SCORE) == fast


def test_where_none_keeps_enough_the_most_accurate_is_chosen_unless_it_is_of_no_use() -> None:
    members = compressed(score(0.91, 2.0), score(0.90, 1.0), score(0.2, 0.05))
    dense = record(DENSE_SCORE)
    assert cheapest([dense, *members], TWO, dense=DENSE_SCORE) == members[0]
    assert cheapest([dense, members[2]], TWO, dense=DENSE_SCORE) == dense
    assert cheapest([members[2]], TWO, dense=DENSE_SCORE) == members[2]


def test_failures_are_never_chosen() -> None:
    failure: Failure = FAILURES[0]
    everyone = [record(failure, recipe=recipe(1)), record(score(0.5, 5.0), recipe=recipe(2))]
    assert Goals(max_accuracy_drop=0.0).nearest(everyone, DENSE_SCORE) == everyone[1]
