"""The result of a run in a terminal."""

from rich.console import Console
from rich.table import Table
from rich.text import Text

from autoprune.report import words
from autoprune.report.data import Finalist, RunReport

COLUMNS = ("RECIPE", "", "ACCURACY", "POINTS", "LATENCY", "NOISE", "SPEED-UP", "SIZE", "PARAMS", "MACS", "PRECISION")


def render_terminal(report: RunReport, console: Console) -> None:
    """Print the headline, the front beside the dense model, what became of the goals, and every warning."""
    console.print(Text(words.headline(report), style="bold"))
    split = f"accuracy on the {report.dense.split} split ({report.dense.score.samples} samples)"
    state = "" if report.finished else "; the search goes on, these numbers are provisional"
    console.print(Text(f"{len(report.records)} trials, {_failed(report)} failed; {split}{state}", style="dim"))
    console.print()
    console.print(_table(report))
    for line, style in _remarks(report):
        console.print(Text(line, style=style))


def _table(report: RunReport) -> Table:
    table = Table(box=None, header_style="bold", pad_edge=False)
    for column in COLUMNS:
        table.add_column(column, justify="left" if column in ("RECIPE", "", "PRECISION") else "right", no_wrap=True)
    members = [member for member in report.front if member.recipe.id != report.dense.recipe.id]
    for member in (*members, report.dense):
        style = {"chosen": "bold green", "dense": "dim"}.get(words.label(member, report), "")
        table.add_row(*_cells(member, report), style=style)
    return table


def _cells(member: Finalist, report: RunReport) -> tuple[str, ...]:
    score, latency = member.score, member.score.latency
    return (
        member.recipe.id,
        words.label(member, report),
        words.percent(score.accuracy),
        words.points(report.dense.score.accuracy - score.accuracy),
        f"{words.milliseconds(latency.median_ms)} ms",
        words.noise(latency) + ("!" if latency.disturbed else ""),
        words.times(score.speedup),
        words.size(score.size_bytes),
        words.number(score.parameters),
        words.number(score.macs),
        latency.precision,
    )


def _remarks(report: RunReport) -> list[tuple[str, str]]:
    lines = [("", "")]
    if verdict := words.verdict(report):
        lines.append((verdict, "yellow" if report.misses else "green"))
    if any(member.score.latency.disturbed for member in (*report.front, report.dense)):
        lines.append(("! Something else used the processor while this model was timed.", "yellow"))
    lines += [(f"Warning: {warning}", "yellow") for warning in report.warnings]
    if model := report.chosen.model:
        lines.append((f"Model: {report.directory}/{model}", ""))
    return lines


def _failed(report: RunReport) -> int:
    return sum(record.score is None for record in report.records)
