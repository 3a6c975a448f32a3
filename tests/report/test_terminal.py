"""The report in a terminal: nothing is cut off, and what matters is said."""

from io import StringIO

import pytest
from rich.console import Console

from autoprune.pareto import Goals
from autoprune.report import RunReport, render_terminal
from tests.factories import finalist, recipe, record, run_report, score


def printed(report: RunReport, width: int = 120) -> str:
    console = Console(file=StringIO(), width=width)
    render_terminal(report, console)
    return console.file.getvalue().replace("\u00a0", " ")  # type: ignore[attr-defined]


@pytest.mark.parametrize("width", [80, 104, 200])
def test_no_number_is_cut_off(width: int) -> None:
    text = printed(run_report(), width)
    assert "\u2026" not in text
    report = run_report()
    rows = [line for line in text.splitlines() if "±" in line]
    assert len(rows) == len({member.recipe.id for member in (*report.front, report.dense)})
    for member in report.front:
        assert any(row.startswith(member.recipe.id[:8]) for row in rows)


def test_what_matters_is_said() -> None:
    report = run_report()
    text = printed(report)
    assert text.startswith("cifar10-resnet20 runs ")
    assert "accuracy on the test split" in text
    assert "The chosen model meets every goal" in text
    assert "Warning: The machine changed speed" in text
    assert f"{report.directory}/front/{report.chosen.recipe.id}/model.onnx" in text
    assert sum("chosen" in line for line in text.splitlines()) == 2


def test_the_dense_row_closes_the_table_once() -> None:
    rows = [line for line in printed(run_report()).splitlines() if "±" in line]
    assert "1.00\u00d7" in rows[-1]
    assert sum("1.00\u00d7" in row for row in rows) == 1


def test_missed_goals_and_an_unfinished_search() -> None:
    text = printed(run_report(finished=False, goals=Goals(max_latency_ms=0.1)))
    assert "No model meets every goal (take at most 0.1 ms)" in text
    assert "provisional" in text
    assert "model.onnx" not in text


def test_a_disturbed_measurement_is_marked() -> None:
    found = score(0.92, 1.0)
    disturbed = found.model_copy(update={"latency": found.latency.model_copy(update={"disturbed": True})})
    text = printed(run_report(finalists=(finalist(record(disturbed, recipe=recipe(1))),)))
    assert "±0.4 %!" in text
    assert "Something disturbed the device" in text


def test_brackets_in_a_name_are_no_markup() -> None:
    assert "[red]x[/red] runs" in printed(run_report(task="[red]x[/red]"))
