"""The frame that all benchmarks share: options, table, figures against their goals, JSON.

A benchmark is a function that fills a `Bench`::

    def run(bench: Bench) -> None:
        for name in MODELS if not bench.quick else MODELS[:1]:
            bench.row(model=name, latency_ms=1.25, speedup=2.0)
        bench.figure("worst error (%)", 0.34, goal="<= 1")

    if __name__ == "__main__":
        main("Latency tables", run)

``--json FILE`` writes ``{"figures": {name: {"value", "goal", "met"}}, "rows": [...], "circumstances": {...}}``.
The exit status is 1 when a figure misses its goal, except with ``--quick``, whose numbers prove nothing.
"""

import argparse
import importlib.metadata
import json
import operator
import os
import platform
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from pathlib import Path
from statistics import fmean, stdev
from typing import Any

from rich.console import Console
from rich.table import Table

COMPARE = {"<=": operator.le, ">=": operator.ge, "<": operator.lt, ">": operator.gt, "==": operator.eq}
PACKAGES = ("torch", "onnxruntime", "onnx", "optuna", "numpy", "ray")


class Bench:
    """What one benchmark finds. ``quick`` asks for a run of seconds that only shows that it works."""

    def __init__(self, title: str, *, quick: bool) -> None:
        self.title, self.quick = title, quick
        self.rows: list[dict[str, Any]] = []
        self.figures: dict[str, dict[str, Any]] = {}
        self.circumstances = _circumstances() | {"quick": quick}
        self.console = Console(width=None if sys.stdout.isatty() else 160)
        self._began = time.monotonic()

    def row(self, **cells: Any) -> None:
        """One line of the table; rows may differ in their columns."""
        self.rows.append(cells)

    def figure(self, name: str, value: float, *, goal: str | None = None) -> None:
        """One number that is claimed; ``goal`` reads like ``"<= 0.5"``, None where nothing is promised."""
        sign, _, bound = (goal or "").partition(" ")
        met = bool(COMPARE[sign](value, float(bound))) if goal else None
        self.figures[name] = {"value": value, "goal": goal, "met": met}

    def say(self, message: str) -> None:
        """A line of progress."""
        self.console.print(f"[dim]{time.monotonic() - self._began:6.1f} s[/] {message}", highlight=False)

    @property
    def missed(self) -> bool:
        """Whether a figure misses its goal."""
        return any(figure["met"] is False for figure in self.figures.values())

    def document(self) -> dict[str, Any]:
        """Everything, as it is written to JSON."""
        ended = {"seconds": round(time.monotonic() - self._began, 1), "load_at_end": os.getloadavg()[0]}
        return {"figures": self.figures, "rows": self.rows, "circumstances": self.circumstances | ended}

    def show(self) -> None:
        """Print rows and figures."""
        columns = list(dict.fromkeys(name for row in self.rows for name in row))
        table = Table(*columns, title=self.title)
        for row in self.rows:
            table.add_row(*(_cell(row.get(name, "")) for name in columns))
        figures = Table("figure", "value", "goal", "met")
        for name, figure in self.figures.items():
            met = {True: "[green]yes", False: "[red]no", None: ""}[figure["met"]]
            figures.add_row(name, _cell(figure["value"]), figure["goal"] or "", met)
        self.console.print(table, figures)


def interval(values: Sequence[float]) -> tuple[float, float | None]:
    """Mean and half of its 95 % interval by Student's t, which a single value does not have."""
    from scipy.stats import t

    if len(values) < 2:
        return values[0], None
    return fmean(values), float(t.ppf(0.975, len(values) - 1)) * stdev(values) / len(values) ** 0.5


def main(title: str, run: Callable[[Bench], None]) -> None:
    """Run one benchmark as a command; ends the process."""
    parser = argparse.ArgumentParser(description=title)
    parser.add_argument("--quick", action="store_true", help="a run of seconds that only shows that it works")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write figures, rows and circumstances there")
    options = parser.parse_args()
    bench = Bench(title, quick=options.quick)
    run(bench)
    bench.show()
    if options.json:
        options.json.write_text(json.dumps(bench.document(), indent=2) + "\n", encoding="utf-8")
    sys.exit(bench.missed and not bench.quick)


def _cell(value: object) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def _circumstances() -> dict[str, Any]:
    installed = {name: _version(name) for name in PACKAGES}
    return {
        "at": datetime.now(UTC).isoformat(timespec="seconds"),
        "commit": _output(["git", "describe", "--always", "--dirty"]),
        "cpu": _cpu(),
        "cores": os.cpu_count(),
        "os": platform.platform(),
        "python": platform.python_version(),
        "packages": {name: version for name, version in installed.items() if version},
        "load_at_start": os.getloadavg()[0],
    }


def _cpu() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    return next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), platform.machine())


def _version(package: str) -> str | None:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None


def _output(command: list[str]) -> str:
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=Path(__file__).parent)
    return done.stdout.strip() or "unknown"
