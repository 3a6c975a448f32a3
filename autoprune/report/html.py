"""The report as one HTML file that loads nothing."""

from autoprune.report import words
from autoprune.report.data import RunReport


def render_html(report: RunReport) -> str:
    """The whole file."""
    return words.headline(report)
