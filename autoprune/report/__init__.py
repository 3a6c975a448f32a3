"""A run told to people and programs: terminal, HTML, ``pareto.json``."""

from autoprune.report.data import Finalist, RunReport
from autoprune.report.html import render_html
from autoprune.report.latency import render_latency, saved
from autoprune.report.summary import pareto_document
from autoprune.report.terminal import render_terminal

__all__ = ["Finalist", "RunReport", "pareto_document", "render_html", "render_latency", "render_terminal", "saved"]
