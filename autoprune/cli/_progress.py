"""The live line of a search."""

import re
import sys
import time
from types import TracebackType

from rich.console import Console
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from autoprune.engine.observer import Status


class Progress:
    """Shows stage, trials done, front size, best so far and time left; plain lines where there is no terminal."""

    def __init__(self) -> None:
        self.console = console = Console(file=sys.stderr, markup=False, emoji=False)
        self._stage, self._since = "starting", time.monotonic()
        self._kind = ""  # the stage without its figures: where lines stay, a countdown is told once
        self._status: Status | None = None
        self._live = Live(get_renderable=self._render, console=console, refresh_per_second=4, transient=True)

    def __enter__(self) -> "Progress":
        if self.console.is_terminal:
            self._live.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._live.stop()

    def message(self, text: str) -> None:
        """A line that stays."""
        self.console.print(text, highlight=False, soft_wrap=True)

    def stage(self, text: str) -> None:
        """What is being done now."""
        kind = re.sub(r"[\d.]+", "", text.split(",")[0])
        if not self.console.is_terminal and self._status is None and kind != self._kind:
            self.message(f"{text} ...")
        self._kind = kind
        self._stage, self._since = text, time.monotonic()

    def status(self, status: Status) -> None:
        """A trial ended."""
        self._status = status
        if not self.console.is_terminal:
            self.message(summary(status))

    def _render(self) -> Table:
        grid = Table.grid(padding=(0, 1))
        stage = Text(f"{self._stage} ({time.monotonic() - self._since:.0f} s)", style="cyan")
        if self._status is None:
            grid.add_row(stage)
            return grid
        bar = ProgressBar(total=self._status.total, completed=self._status.done, width=24)
        grid.add_row(bar, Text(summary(self._status)))
        grid.add_row("", stage)
        return grid


def summary(status: Status) -> str:
    """One line: how far, how good, how long."""
    failed = f", {status.failed} failed" if status.failed else ""
    left = "" if status.seconds_left is None else f" · {clock(status.seconds_left)} to the end"
    return f"trial {status.done}/{status.total}{failed} · front {status.front_size} · best {status.best}{left}"


def clock(seconds: float) -> str:
    """``75`` as ``1:15``."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"
