"""How the hypervolume of searches grows over seconds, as a page with one plot per model."""

from collections.abc import Iterator, Mapping, Sequence
from itertools import cycle

import numpy as np
import plotly.graph_objects as go
from _volumes import Curve, mean
from plotly.subplots import make_subplots

INK, LINE, PAPER = "#17191c", "#e0e1dc", "#f7f8f4"
OURS = "#0f7b4f"
OTHERS = ("#4a6fa5", "#c27a14", "#8d5a97", "#6b7280", "#a1493d", "#2f8f9d")
WIDTH_PX, HEIGHT_PX = 520, 430
OPENING = 3  # evaluations, before which there is not much to see: the dense models


def page(plots: Mapping[str, Mapping[str, Sequence[Curve]]]) -> str:
    """HTML of the searches' curves: by title, then strategy, those of all seeds."""
    figure = make_subplots(cols=len(plots), subplot_titles=list(plots), horizontal_spacing=0.09)
    for column, curves in enumerate(plots.values(), 1):
        colours = cycle(OTHERS)
        for name, several in curves.items():
            for trace in _traces(name, several, OURS if name == "guided" else next(colours)):
                figure.add_trace(trace, row=1, col=column)
        volumes = [mean(several)[0] for several in curves.values()]
        figure.update_yaxes(range=_range([one[min(OPENING, len(one)) - 1 :] for one in volumes]), col=column)
    figure.update_xaxes(title="seconds, tables included", type="log", gridcolor=LINE, zeroline=False, dtick="D2")
    figure.update_yaxes(gridcolor=LINE, zeroline=False, tickformat=".2f")
    figure.update_yaxes(title="hypervolume", col=1)
    figure.update_layout(
        width=WIDTH_PX * len(plots),
        height=HEIGHT_PX,
        showlegend=False,
        font={"family": "system-ui, DejaVu Sans, sans-serif", "color": INK, "size": 13},
        paper_bgcolor=PAPER,
        plot_bgcolor=PAPER,
        margin={"l": 60, "r": 24, "t": 44, "b": 52},
    )
    plot = figure.to_html(include_plotlyjs=True, full_html=False, config={"displayModeBar": False})
    return f'<!doctype html><meta charset="utf-8"><title>Search efficiency</title><body style="margin: 0">{plot}'


def _range(volumes: Sequence[Sequence[float]]) -> tuple[float, float]:
    """From the lowest to the highest of them, with some room above for the names."""
    low, high = min(map(min, volumes)), max(map(max, volumes))
    return low - 0.02 * (high - low), high + 0.08 * (high - low)


def _traces(name: str, several: Sequence[Curve], colour: str) -> Iterator[go.Scatter]:
    """The range over seeds, and their mean, named where it ends."""
    volumes, seconds = mean(several)
    low, high = (edge([one[: len(volumes)] for one, _ in several], axis=0).tolist() for edge in (np.min, np.max))
    yield go.Scatter(
        x=[*seconds, *seconds[::-1]],
        y=[*high, *low[::-1]],
        fill="toself",
        fillcolor=colour,
        opacity=0.18,
        line={"width": 0},
        hoverinfo="skip",
    )
    yield go.Scatter(
        x=seconds,
        y=volumes,
        mode="lines+text",
        text=[*[""] * (len(volumes) - 1), f"{name}, {len(volumes)}"],
        textposition="top left",
        textfont={"color": colour},
        line={"color": colour, "width": 2},
        hovertemplate=f"{name}: %{{y:.4f}} after %{{x:.0f}} s<extra></extra>",
    )
