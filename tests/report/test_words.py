"""Numbers in words."""

import pytest

from autoprune.pareto import Goals, objectives
from autoprune.records import UNSETTLED
from autoprune.report import words
from tests.factories import finalist, measurement, recipe, record, run_report, score


def test_numbers_have_three_or_more_figures() -> None:
    assert words.milliseconds(0.79361) == "0.794"
    assert words.milliseconds(0.03162) == "0.0316"
    assert words.milliseconds(23.041) == "23.04"
    assert words.milliseconds(230.41) == "230.4"
    spaced = [words.size(n) for n in (512, 80_000, 999_600, 1_092_000, 12_300_000_000)]
    assert [text.replace("\u00a0", " ") for text in spaced] == ["512 B", "80.0 kB", "1.00 MB", "1.09 MB", "12.3 GB"]
    assert words.number(273_000) == "273\u00a0k"
    assert words.number(12) == "12"
    assert words.noise(measurement(1.0, noise=0.004)) == "±0.4\u00a0%"


def test_intervals_are_called_what_they_are() -> None:
    settled, fastest = measurement(1.0), measurement(1.0).model_copy(update={"conditions": {UNSETTLED: "yes"}})
    assert words.intervals([settled, settled]) == "95 % intervals of the median"
    assert words.intervals([fastest, fastest]) == "the ranges of the fastest runs"
    assert words.intervals([settled, fastest]).endswith("of what did not settle, the ranges of the fastest runs")


def test_points_are_signed() -> None:
    assert words.points(0.0034) == "\u22120.34"
    assert words.points(-0.0034) == "+0.34"
    assert words.points(1e-6) == "0.00"


@pytest.mark.parametrize(("seconds", "text"), [(12, "12 s"), (300, "5 min"), (4920, "1 h 22 min")])
def test_durations(seconds: float, text: str) -> None:
    assert words.duration(seconds) == text


@pytest.mark.parametrize(
    ("accuracy", "text"),
    [(0.93, "at the same accuracy"), (0.9266, "loses 0.34 points"), (0.9331, "gains 0.31 points")],
)
def test_the_headline_is_one_sentence(accuracy: float, text: str) -> None:
    dense = finalist(record(score()))
    only = finalist(record(score(accuracy, 0.576), recipe=recipe(1)))
    said = words.headline(run_report(dense=dense, finalists=(only,)))
    assert said.startswith("cifar10-resnet20 runs 4.00\u00d7 as fast on cpu")
    assert text in said


def test_the_headline_claims_nothing_where_nothing_is_better() -> None:
    assert (
        words.headline(run_report(finalists=()))
        == "No smaller model of cifar10-resnet20 is faster on cpu and accurate enough."
    )


def test_a_choice_without_goals_says_what_it_is() -> None:
    def said(accuracy: float, *over: str) -> str:
        only = finalist(record(score(accuracy, 0.576), recipe=recipe(1)))
        dense = finalist(record(score()))
        return words.verdict(run_report(dense=dense, finalists=(only,), goals=Goals(), objectives=objectives(over)))

    assert said(0.93, "accuracy", "latency_ms").startswith("The chosen model is the fastest that keeps 99\u00a0% of")
    assert said(0.93, "accuracy", "size_bytes").startswith(
        "The chosen model has the least size_bytes that keeps 99\u00a0%"
    )
    assert said(0.90, "accuracy", "latency_ms").startswith("No smaller model keeps 99\u00a0% of the accuracy")
    assert words.verdict(run_report(finalists=(), goals=Goals())) == ""
