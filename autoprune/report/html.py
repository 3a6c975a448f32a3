"""The report of a run as one HTML file."""

import shlex
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from autoprune.records import Failure
from autoprune.report import words
from autoprune.report.data import Finalist, RunReport
from autoprune.report.figures import figures
from autoprune.report.page import render_page


@dataclass(frozen=True)
class Tile:
    """One number of the summary, of the chosen model and of the dense one."""

    name: str
    value: str
    before: str
    change: str


def render_html(report: RunReport) -> str:
    """The whole file, about 2 MB: nearly all of it is plotly.js, compressed."""
    return render_page(
        "report.html.j2",
        figures(report),
        report=report,
        tiles=tiles(report),
        failures=[(n, r.recipe.id, r.outcome) for n, r in enumerate(report.tried, 1) if isinstance(r.outcome, Failure)],
        models=[member for member in report.front if member.recipe.id != report.dense.recipe.id],
        export=export_command(report),
        snippet=snippet(report.chosen, report),
    )


def tiles(report: RunReport) -> list[Tile]:
    """The summary."""
    new, old = report.chosen.score, report.dense.score
    found = [
        Tile(
            "Estimated latency" if new.latency.source == "estimated" else "Latency",
            words.latency(new.latency),
            words.latency(old.latency),
            f"{words.speedup(new)} as fast",
        ),
        Tile(
            "Accuracy",
            words.percent(new.accuracy),
            words.percent(old.accuracy),
            f"{words.points(old.accuracy - new.accuracy)} points",
        ),
        _share("Size", new.size_bytes, old.size_bytes, unit=words.size),
        _share("MACs", new.macs, old.macs, unit=words.number),
        _share("Parameters", new.parameters, old.parameters, unit=words.number),
    ]
    if new.peak_memory_bytes and old.peak_memory_bytes:
        found.append(_share("Peak memory", new.peak_memory_bytes, old.peak_memory_bytes, unit=words.size))
    if new.energy_mj and old.energy_mj:
        found.append(_share("Energy", new.energy_mj, old.energy_mj, unit=words.energy))
    return found


def export_command(report: RunReport) -> str:
    """Copies the chosen model out of the run directory."""
    return f"autoprune export {shlex.quote(report.directory)} {report.chosen.recipe.id} --to model"


def snippet(chosen: Finalist, report: RunReport) -> str:
    """Python that runs the chosen model; empty while it is not exported."""
    if chosen.model is None:
        return ""
    from autoprune.export import format_of

    form, path = format_of(Path(chosen.model)), f"{report.directory}/{chosen.model}"
    return f"{form.imports}\n\n{form.use.format(model=repr(path))}  # inputs: one float32 array each, the batch first"


def _share(name: str, new: float, old: float, *, unit: Any) -> Tile:
    change = f"{100 * (new / old - 1):+.0f}{words.NBSP}%".replace("-", words.MINUS) if old else ""
    return Tile(name, unit(new), unit(old), change)
