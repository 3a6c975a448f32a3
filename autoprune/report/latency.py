"""A latency table as a page: width against latency per group, predicted against measured."""

from __future__ import annotations

from math import floor, log10
from typing import TYPE_CHECKING, Any

from autoprune.report.figures import COLOURS, SYMBOLS, Figure, axis, figure_of
from autoprune.report.page import render_page

if TYPE_CHECKING:
    from collections.abc import Mapping

    from autoprune.hardware import Precision
    from autoprune.latency import Cell, LatencyTable, Observation, PrecisionTable


def render_latency(table: LatencyTable) -> str:
    """The whole file."""
    plots: dict[str, Figure] = {f"widths-{name}": widths_figure(table, name) for name in table.tables}
    plots["held-out"] = held_out_figure(table)
    return render_page("latency.html.j2", plots, table=table, sizes=sizes(table), saved=saved)


def sizes(table: LatencyTable) -> Mapping[str, Mapping[str, tuple[Cell, ...]]]:
    """Group id -> precision -> cells, for a table with one row per group."""
    groups = dict.fromkeys(group for one in table.tables.values() for group in one.cells)
    return {group: {name: one.cells[group] for name, one in table.tables.items()} for group in groups}


def saved(cell: Cell, table: LatencyTable) -> str:
    """``16: 0.123 ±0.004``, in milliseconds, with as many decimals as a ten-thousandth of the dense latency needs."""
    half = table.dense_ms * (cell.high - cell.low) / 2
    decimals = max(1, 4 - floor(log10(table.dense_ms)) - 1)
    return f"{cell.units}: {table.dense_ms * cell.saves:.{decimals}f} ±{half:.{decimals}f}"


def widths_figure(table: LatencyTable, precision: Precision) -> Figure:
    """The latency of the whole model when one group alone is cut, one line per group, with what was timed itself."""
    one = table.tables[precision]
    traces: list[Figure] = [_line(group, cells, one, table) for group, cells in one.cells.items()]
    traces.append(_timed([o for o in table.observations if _alone(o, precision)]))
    return {
        **figure_of(traces, xaxis=axis("units kept"), yaxis=axis(f"latency of the model, {precision}, ms")),
        "height": 420,
    }


def _line(group: str, cells: tuple[Cell, ...], one: PrecisionTable, table: LatencyTable) -> Figure:
    y = [table.dense_ms * (one.dense_share - cell.saves) for cell in cells]
    half = [table.dense_ms * (cell.high - cell.low) / 2 for cell in cells]
    about = [
        f"<b>{group}</b><br>{saved(cell, table)} ms saved{'' if cell.pays else '<br>does not pay'}" for cell in cells
    ]
    return {
        "type": "scatter",
        "mode": "lines+markers",
        "name": group,
        "showlegend": False,
        "x": [cell.units for cell in cells],
        "y": y,
        "error_y": {"type": "data", "array": half, "width": 0, "thickness": 1},
        "text": about,
        "hovertemplate": "%{text}<extra></extra>",
        "line": {"width": 1},
        "marker": {"size": 6},
    }


def _timed(observations: list[Observation]) -> Figure:
    cut = [next(iter(one.recipe.choices.items())) for one in observations]
    return {
        "type": "scatter",
        "mode": "markers",
        "name": "timed by itself",
        "x": [keep.units for _, keep in cut],
        "y": [one.latency_ms for one in observations],
        "text": [group for group, _ in cut],
        "hovertemplate": "%{text}<br>%{x}: %{y:.4f} ms<extra>timed by itself</extra>",
        "marker": {"symbol": "x-thin-open", "size": 9, "color": "@ink"},
    }


def _alone(one: Observation, precision: Precision) -> bool:
    return one.recipe.precision == precision and len(one.recipe.choices) == 1


def held_out_figure(table: LatencyTable) -> Figure:
    """Measured milliseconds of the recipes that the table did not see, against what it predicted."""
    traces: list[Figure] = []
    for name, one in table.tables.items():
        dense_ms = table.dense_ms * one.dense_share
        measured = [p.measured * dense_ms for p in one.held_out]
        traces.append(
            {
                "type": "scatter",
                "mode": "markers",
                "name": name,
                "x": [p.predicted * dense_ms for p in one.held_out],
                "y": measured,
                "marker": {"symbol": SYMBOLS[name], "color": COLOURS[name], "size": 8},
                "hovertemplate": "predicted %{x:.4f} ms<br>measured %{y:.4f} ms<extra></extra>",
            }
        )
    ends = [f(value for trace in traces for value in [*trace["x"], *trace["y"]]) for f in (min, max)]
    line: dict[str, Any] = {
        "type": "scatter",
        "mode": "lines",
        "x": ends,
        "y": ends,
        "name": "equal",
        "hoverinfo": "skip",
    }
    line["line"] = {"color": "@muted", "width": 1, "dash": "dot"}
    return figure_of([line, *traces], xaxis=axis("predicted, ms"), yaxis=axis("measured, ms"))
