"""The result of a run in a terminal."""

import shlex
import sys
from pathlib import Path

from rich.console import Console
from rich.table import Table
from rich.text import Text

from autoprune.records import Failure
from autoprune.report import words
from autoprune.report.data import Finalist, RunReport

SIZES = ("SIZE", "PARAMS", "MACS", "ENERGY")
COLUMNS = ("RECIPE", "", "ACCURACY", "POINTS", "LATENCY", "NOISE", "SPEED-UP", *SIZES, "TYPE")
LEFT = ("RECIPE", "", "TYPE")
WIDE = 104
DROPPED = ("PARAMS", "MACS")  # on a terminal narrower than WIDE, where ids are shortened as well


def render_terminal(report: RunReport, console: Console) -> None:
    """Print the headline, the front beside the dense model, what became of the goals, and every warning."""
    console.print(Text(words.headline(report), style="bold"))
    split = f"accuracy on the {report.dense.split} split ({report.dense.score.samples} samples)"
    state = "" if report.finished else "; the search goes on, these numbers are provisional"
    counts = f"{len(report.tried)} trials, {_failed(report)} failed"
    if screened := len(report.records) - len(report.tried):
        counts += f", {screened} more recipes screened out"
    console.print(Text(f"{counts}; {split}{state}", style="dim"))
    console.print()
    console.print(_table(report, wide=console.width >= WIDE))
    for line, style in _remarks(report):
        console.print(Text(line, style=style), soft_wrap=True)


def _table(report: RunReport, *, wide: bool) -> Table:
    table = Table(box=None, header_style="bold", pad_edge=False)
    columns = [column for column in COLUMNS if wide or column not in DROPPED]
    if report.dense.score.energy is None:
        columns.remove("ENERGY")
    for column in columns:
        table.add_column(column, justify="left" if column in LEFT else "right", no_wrap=True)
    members = [member for member in report.front if member.recipe.id != report.dense.recipe.id]
    for member in (*members, report.dense):
        cells = _cells(member, report)
        if not wide:
            cells |= {"RECIPE": member.recipe.id[:8], "": cells[""].partition(",")[0]}
        style = "bold green" if member is report.chosen else "dim" if member is report.dense else ""
        table.add_row(*(cells[column] for column in columns), style=style)
    return table


def _cells(member: Finalist, report: RunReport) -> dict[str, str]:
    score, latency = member.score, member.score.latency
    return {
        "RECIPE": member.recipe.id,
        "": words.label(member, report),
        "ACCURACY": words.percent(score.accuracy),
        "POINTS": words.points(report.dense.score.accuracy - score.accuracy),
        "LATENCY": words.latency(latency),
        "NOISE": words.noise(latency) + ("!" if latency.disturbed else ""),
        "SPEED-UP": words.speedup(score),
        "SIZE": words.size(score.size_bytes),
        "PARAMS": words.number(score.parameters),
        "MACS": words.number(score.macs),
        "ENERGY": words.energy(score.energy_mj) if score.energy_mj else "",
        "TYPE": latency.precision,
    }


def _remarks(report: RunReport) -> list[tuple[str, str]]:
    lines = [("", "")]
    if verdict := words.verdict(report):
        lines.append((verdict, "yellow" if report.misses else "green"))
    if any(member.score.latency.disturbed for member in (*report.front, report.dense)):
        lines.append(("! Something disturbed the device while this model was timed.", "yellow"))
    if plan := words.plan(report):
        lines.append((plan, "yellow"))
    lines += [(f"Warning: {warning}", "yellow") for warning in report.warnings]
    if model := report.chosen.model:
        use = Path(report.directory, model).with_name("use.py")
        lines += [
            *([("", "")] if len(lines) > 1 else []),
            (f"Report   {report.directory}/report.html", ""),
            (f"Model    {report.directory}/{model}", ""),
            (f"Run it   {shlex.join([_python(), str(use)])}", ""),
        ]
    return lines


def _python() -> str:
    """This interpreter, as short as it can be named from here."""
    path = Path(sys.executable)
    return str(path.relative_to(Path.cwd())) if path.is_relative_to(Path.cwd()) else str(path)


def _failed(report: RunReport) -> int:
    return sum(isinstance(record.outcome, Failure) for record in report.records)
