"""The plots, as plain Plotly figures; a colour such as ``@accent`` names a CSS variable of the page."""

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from html import escape
from typing import Any

from autoprune.hardware import Precision
from autoprune.pareto import Objective, front, value
from autoprune.recipe import DENSE, Recipe
from autoprune.records import Measurement, Score
from autoprune.report import words
from autoprune.report.data import Finalist, RunReport

Figure = dict[str, Any]

LATENCY = "latency_ms"
SYMBOLS: dict[Precision, str] = {"fp32": "circle", "fp16": "triangle-up", "int8": "diamond"}
COLOURS: dict[Precision, str] = {"fp32": "@fp32", "fp16": "@fp16", "int8": "@int8"}
ROW_PX = 34
MOST_OPERATORS = 10
MOST_NUMBERED = 30  # groups, beyond which the cells of the heatmap are too narrow for a number


def figures(report: RunReport) -> dict[str, Figure]:
    """Every plot that this run has data for, by the id of its place in the page."""
    costs = [objective for objective in report.objectives if not objective.maximize]
    found = {
        **{f"front-{by.name}": front_figure(report, by) for by in costs},
        "trials": trials_figure(report, costs[0]),
        "progress-trials": progress_figure(report, over_time=False),
        "progress-time": progress_figure(report, over_time=True),
    }
    if report.dense.score.latency.source == "measured":
        found["intervals"] = intervals_figure(report)
    if not _estimated(report):
        found["drift"] = drift_figure(report)
    if any(report.groups[group] != units for member in report.front for group, units in member.kept.items()):
        found["kept"] = kept_figure(report)
    if report.dense.operators and report.chosen.operators:
        found["operators"] = operators_figure(report)
    return found


def front_figure(report: RunReport, by: Objective) -> Figure:
    """Final accuracy against the final cost ``by``, with intervals, the dense models and the goals."""
    traces = [_edge([member.score for member in report.front], by)] if len(report.objectives) == 2 else []
    for precision in SYMBOLS:
        members = [m for m in report.front if m.score.latency.precision == precision and not _is_dense(m.recipe)]
        trace = _marks(
            precision, [m.score for m in members], [_about(m.recipe, m.score, report) for m in members], by=by
        )
        trace["marker"] = {"symbol": SYMBOLS[precision], "size": 11, "color": COLOURS[precision]}
        if by.name == LATENCY:
            trace["error_x"] = _error_bars([m.score.latency for m in members], COLOURS[precision])
        traces.append(trace)
    traces += _dense_marks(report, [report.dense, *report.finalists], by)
    ring = {**_marks("chosen", [report.chosen.score], [""], by=by), "hoverinfo": "skip", "hovertemplate": None}
    ring["marker"] = {"symbol": "circle-open", "size": 24, "color": "@accent", "line": {"width": 2}}
    axes = _against_accuracy(by, report.dense.split, estimated=report.dense.score.latency.source == "estimated")
    return figure_of(_drawn([*traces, ring]), **axes, shapes=_goal_lines(report, by))


def trials_figure(report: RunReport, by: Objective) -> Figure:
    """What the search saw: validation accuracy against the cost ``by`` of every trial that was scored."""
    scored = [(n, r.recipe, r.score) for n, r in enumerate(report.tried, 1) if r.score]
    edge = [record.score for record in front(report.records, report.objectives) if record.score]
    traces = [_edge(edge, by)] if len(report.objectives) == 2 else []
    for precision, symbol in SYMBOLS.items():
        these = [(n, r, s) for n, r, s in scored if s.latency.precision == precision and not _is_dense(r)]
        about = [f"trial {n}<br>{_about(recipe, score)}" for n, recipe, score in these]
        trace = _marks(precision, [score for _, _, score in these], about, by=by)
        trace["marker"] = {"symbol": symbol, "size": 8, "color": COLOURS[precision], "opacity": 0.65}
        traces.append(trace)
    traces += _dense_marks(report, [Finalist.provisional(record) for record in report.records if record.score], by)
    return figure_of(_drawn(traces), **_against_accuracy(by, "validation", estimated=_estimated(report)))


def progress_figure(report: RunReport, *, over_time: bool) -> Figure:
    """Hypervolume over trials, or over minutes."""
    steps = report.progress
    trace = {
        "type": "scatter",
        "mode": "lines",
        "x": [step.seconds / 60 if over_time else step.trial for step in steps],
        "y": [step.value for step in steps],
        "line": {"color": "@accent", "width": 2, "shape": "hv"},
        "fill": "tozeroy",
        "fillcolor": "@accent-soft",
        "hovertemplate": "%{y:.4f}<extra></extra>",
    }
    title = "minutes" if over_time else "trial"
    return figure_of([trace], xaxis=axis(title), yaxis={**axis("hypervolume"), "rangemode": "tozero"}, showlegend=False)


def kept_figure(report: RunReport) -> Figure:
    """How much of every group each model on the front keeps."""
    members = [member for member in report.front if not _is_dense(member.recipe)][::-1]
    groups = list(report.groups.items())
    units = [[member.kept.get(group, size) for group, size in groups] for member in members]
    heat = {
        "type": "heatmap",
        "x": [escape(group) for group, _ in groups],
        "y": [_row(member, report) for member in members],
        "z": [[kept / size for kept, (_, size) in zip(row, groups, strict=True)] for row in units],
        "text": units,
        "texttemplate": "%{text}" if len(groups) <= MOST_NUMBERED else "",
        "textfont": {"size": 11},
        "zmin": 0,
        "zmax": 1,
        "xgap": 2,
        "ygap": 2,
        "colorscale": [[0, "@heat-low"], [1, "@heat-high"]],
        "colorbar": {
            "tickformat": ".0%",
            "thickness": 10,
            "outlinewidth": 0,
            "orientation": "h",
            "y": 1.02,
            "yanchor": "bottom",
            "len": 0.5,
            "x": 0,
            "xanchor": "left",
        },
        "hovertemplate": "%{x}<br>keeps %{text} (%{z:.0%})<extra>%{y}</extra>",
    }
    figure = figure_of(
        [heat],
        xaxis={"tickangle": -45, "automargin": True, "type": "category", "showgrid": False},
        yaxis={"automargin": True, "type": "category", "showgrid": False},
    )
    figure["height"] = 190 + ROW_PX * len(members)
    figure["width"] = 150 + 22 * len(groups)
    return figure


def operators_figure(report: RunReport) -> Figure:
    """Time per operator type in the dense and in the chosen model."""
    before, after = _by_type(report.dense), _by_type(report.chosen)
    kinds = sorted({*before, *after}, key=lambda kind: max(before.get(kind, 0.0), after.get(kind, 0.0)), reverse=True)
    shown = kinds[:MOST_OPERATORS][::-1]
    bars = [
        {
            "type": "bar",
            "orientation": "h",
            "name": name,
            "y": [escape(kind) for kind in shown],
            "x": [times.get(kind, 0.0) for kind in shown],
            "marker": {"color": colour},
            "hovertemplate": f"{name}: %{{x:.3f}} ms<extra>%{{y}}</extra>",
        }
        for name, times, colour in (("chosen", after, "@accent"), ("dense", before, "@fp32"))
    ]
    figure = figure_of(
        bars,
        xaxis={**axis("ms per inference"), "rangemode": "tozero"},
        yaxis={"automargin": True, "showgrid": False},
        barmode="group",
        bargap=0.35,
    )
    figure["layout"]["legend"]["traceorder"] = "reversed"
    figure["height"] = 130 + 1.3 * ROW_PX * len(shown)
    return figure


def intervals_figure(report: RunReport) -> Figure:
    """The interval of every final latency, around its median."""
    members = report.front[::-1]
    latencies = [member.score.latency for member in members]
    trace = {
        "type": "scatter",
        "mode": "markers",
        "x": [0.0] * len(members),
        "y": [_row(member, report) for member in members],
        "marker": {"color": "@accent", "size": 7},
        "error_x": _error_bars(latencies, "@accent", percent=True),
        "text": [f"{words.milliseconds(one.low_ms)} to {words.milliseconds(one.high_ms)} ms" for one in latencies],
        "hovertemplate": "%{text}<extra>%{y}</extra>",
    }
    figure = figure_of(
        [trace],
        xaxis=axis("% of the median"),
        yaxis={"automargin": True, "type": "category", "gridcolor": "@line"},
        showlegend=False,
    )
    figure["height"] = 110 + 0.8 * ROW_PX * len(members)
    return figure


def drift_figure(report: RunReport) -> Figure:
    """The dense model's latency, timed again beside every candidate, against the first."""
    timed = [(trial, record.score.reference_ms) for trial, record in enumerate(report.tried, 1) if record.score]
    first = timed[0][1] if timed else 1.0
    trace = {
        "type": "scatter",
        "mode": "lines+markers",
        "x": [trial for trial, _ in timed],
        "y": [100 * (ms / first - 1) for _, ms in timed],
        "text": [f"{words.milliseconds(ms)} ms" for _, ms in timed],
        "line": {"color": "@fp32", "width": 1.5},
        "marker": {"size": 5},
        "hovertemplate": "%{text} (%{y:+.1f} %)<extra></extra>",
    }
    return figure_of([trace], xaxis=axis("trial"), yaxis=axis("% against the start"), showlegend=False)


def _error_bars(latencies: Sequence[Measurement], colour: str, *, percent: bool = False) -> Figure:
    """The intervals, in milliseconds or in percent of the median."""
    unit = [latency.median_ms / 100 if percent else 1.0 for latency in latencies]
    return {
        "type": "data",
        "symmetric": False,
        "array": [(one.high_ms - one.median_ms) / per for one, per in zip(latencies, unit, strict=True)],
        "arrayminus": [(one.median_ms - one.low_ms) / per for one, per in zip(latencies, unit, strict=True)],
        "color": colour,
        "thickness": 1.5,
        "width": 4,
    }


def _dense_marks(report: RunReport, members: Iterable[Finalist], by: Objective) -> list[Figure]:
    """One mark for each uncut model: dense FP32, dense FP16, dense INT8."""
    traces = []
    for member in members:
        if not _is_dense(member.recipe):
            continue
        precision = member.score.latency.precision
        trace = _marks(f"dense {precision}", [member.score], [_about(member.recipe, member.score, report)], by=by)
        symbol, colour = ("square", "@ink") if precision == "fp32" else (SYMBOLS[precision], COLOURS[precision])
        trace["marker"] = {"symbol": symbol, "size": 12, "color": colour}
        trace["marker"]["line"] = {"width": 2, "color": "@ink"}
        traces.append(trace)
    return traces


def _goal_lines(report: RunReport, by: Objective) -> list[Figure]:
    """The limits that the goals draw into accuracy against the cost ``by``; one of them stands in the legend."""
    goals, dense = report.goals, report.dense.score
    places: list[Figure] = []
    if goals.max_accuracy_drop is not None:
        floor = 100 * (dense.accuracy - goals.max_accuracy_drop)
        places.append({"xref": "paper", "x0": 0, "x1": 1, "y0": floor, "y1": floor})
    for limit in (goals.max_latency_ms, goals.min_speedup and dense.reference_ms / goals.min_speedup):
        if limit is not None and by.name == LATENCY:
            places.append({"yref": "paper", "y0": 0, "y1": 1, "x0": limit, "x1": limit})
    style = {"type": "line", "layer": "below", "line": {"color": "@warn", "width": 1, "dash": "dash"}, "name": "goals"}
    return [{**style, **place, "showlegend": n == 0} for n, place in enumerate(places)]


def _marks(name: str, scores: Sequence[Score], about: Sequence[str], *, by: Objective) -> Figure:
    return {
        "type": "scatter",
        "mode": "markers",
        "name": name,
        "x": [_cost(score, by) for score in scores],
        "y": [100 * score.accuracy for score in scores],
        "text": list(about),
        "hovertemplate": "%{text}<extra></extra>",
    }


def _edge(scores: Sequence[Score], by: Objective) -> Figure:
    """The staircase under a front."""
    steps = sorted((_cost(score, by), 100 * score.accuracy) for score in scores)
    return {
        "type": "scatter",
        "mode": "lines",
        "name": "front",
        "x": [cost for cost, _ in steps],
        "y": [accuracy for _, accuracy in steps],
        "line": {"color": "@accent", "width": 1.5, "shape": "hv", "dash": "dot"},
        "hoverinfo": "skip",
    }


def _cost(score: Score, by: Objective) -> float:
    return score.latency.median_ms if by.name == LATENCY else value(score, by)


def _drawn(traces: Iterable[Figure]) -> list[Figure]:
    """Without those that have no points, which would stand in the legend all the same."""
    return [trace for trace in traces if trace["x"]]


def _estimated(report: RunReport) -> bool:
    """Whether the search went by estimates; its finalists may have been measured since."""
    return any(record.score and record.score.latency.source == "estimated" for record in report.records)


def _against_accuracy(by: Objective, split: str, *, estimated: bool) -> Figure:
    title = "latency, ms" if by.name == LATENCY else by.name.replace("_bytes", ", bytes").replace("_", " ")
    title = f"estimated {title}" if estimated and by.name == LATENCY else title
    return {"xaxis": {**axis(title), "rangemode": "tozero"}, "yaxis": axis(f"accuracy on the {split} split, %")}


def axis(title: str) -> Figure:
    """An axis of that title in the page's colours."""
    return {
        "title": {"text": title, "standoff": 10, "font": {"size": 13}},
        "automargin": True,
        "gridcolor": "@line",
        "linecolor": "@line",
        "zerolinecolor": "@line",
    }


def figure_of(traces: list[Figure], **layout: Any) -> Figure:
    """A plot of ``traces`` in the page's style."""
    base = {
        "paper_bgcolor": "rgba(0,0,0,0)",
        "plot_bgcolor": "rgba(0,0,0,0)",
        "font": {"family": "@font", "size": 13, "color": "@muted"},
        "margin": {"l": 48, "r": 12, "t": 12, "b": 44},
        "legend": {"orientation": "h", "y": 1.02, "yanchor": "bottom", "x": 0, "xanchor": "left"},
        "hoverlabel": {
            "bgcolor": "@surface",
            "bordercolor": "@line",
            "font": {"family": "@font", "color": "@ink"},
            "align": "left",
        },
        "hovermode": "closest",
    }
    return {"data": traces, "layout": {**base, **layout}}


def _about(recipe: Recipe, score: Score, report: RunReport | None = None) -> str:
    """A recipe and its numbers, for hovering."""
    latency = score.latency
    lines = [
        f"<b>{recipe.id}</b>",
        f"{words.percent(score.accuracy)} in {words.latency(latency)} {words.noise(latency)}",
        f"{words.speedup(score)}, {words.size(score.size_bytes)}, {words.number(score.macs)}MACs",
        escape(words.recipe(recipe)),
    ]
    if report and recipe.id == report.chosen.recipe.id:
        lines[0] += " chosen"
    return "<br>".join(lines)


def _row(member: Finalist, report: RunReport) -> str:
    mark = words.label(member, report)
    return f"{mark + ' ' if mark else ''}{member.recipe.id[:8]}"


def _is_dense(recipe: Recipe) -> bool:
    return not recipe.choices and recipe.recover == DENSE.recover


def _by_type(member: Finalist) -> Mapping[str, float]:
    """Milliseconds per operator type."""
    total: dict[str, float] = defaultdict(float)
    for row in member.operators:
        total[row.op_type] += row.time_us / 1000
    return total
