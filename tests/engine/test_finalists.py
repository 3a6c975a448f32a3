"""Who of a long front is exported afresh and measured again."""

from itertools import pairwise

from autoprune.engine.finalists import MOST, finalists
from autoprune.pareto import Goals, objectives
from autoprune.recipe import DENSE, Keep, Recipe
from autoprune.records import TrialRecord
from tests.factories import DENSE_MS, record, score

TWO = objectives(("accuracy", "latency_ms"))
FRONT = 40  # each loses half a point more than the slower one before it
INT8 = Recipe(precision="int8")


def searched() -> list[TrialRecord]:
    """The fastest first; the dense models among them."""
    cut = [
        record(
            score(0.93 - 0.005 * n, DENSE_MS * (1 - 0.02 * n)), recipe=Recipe(choices={"layer": Keep(units=100 - n)})
        )
        for n in range(FRONT, 0, -1)
    ]
    return [
        *cut,
        record(score(0.929, DENSE_MS * 0.99, precision="int8"), recipe=INT8),
        record(score(0.93), recipe=DENSE),
    ]


def lost(found: list[TrialRecord]) -> list[int]:
    """Half points that each loses, the dense models aside."""
    return [round((0.93 - one.score.accuracy) / 0.005) for one in found if one.score and one.recipe.choices]


def test_the_dense_models_come_first() -> None:
    found = finalists(searched(), TWO, goals=Goals())
    assert [one.recipe for one in found[:2]] == [DENSE, INT8]
    assert len(found) == MOST + 2


def test_without_goals_half_of_them_are_around_99_per_cent_and_the_others_over_what_is_of_use() -> None:
    places = lost(finalists(searched(), TWO, goals=Goals()))
    assert places[0] == 27  # 13.5 points; 15 % of 0.93 are 13.95
    assert places[-MOST // 2 :] == [5, 4, 3, 2, 1], "1 keeps 99 %, 2 does not"
    assert {before - after for before, after in pairwise(places[: MOST // 2])} <= {5, 6}


def test_with_goals_half_of_them_are_around_what_they_ask_for() -> None:
    asked = ((Goals(max_accuracy_drop=0.05), 10), (Goals(min_speedup=2.0), 25), (Goals(min_speedup=9.0), FRONT))
    for goals, wanted in asked:
        places = lost(finalists(searched(), TWO, goals=goals))
        assert len(places) == MOST
        assert wanted in places
        assert sum(abs(place - wanted) <= MOST // 2 for place in places) >= MOST // 2
        assert (places[0], places[-1]) == (FRONT, 1)


def test_a_short_front_is_taken_whole() -> None:
    few = searched()[-MOST - 2 :]
    assert len(finalists(few, TWO, goals=Goals(max_accuracy_drop=0.01))) == len(few)
