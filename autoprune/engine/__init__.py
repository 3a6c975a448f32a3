"""The loop, wired: configure, start, resume. `search` and `resume` are the Python interface."""

from autoprune.engine.api import Run, configure, goals, resume, search, start
from autoprune.engine.calibration import calibrate, write_table
from autoprune.engine.config import RunInfo, SearchConfig
from autoprune.engine.measuring import measure
from autoprune.engine.observer import Observer, Silent, Status

__all__ = [
    "Observer",
    "Run",
    "RunInfo",
    "SearchConfig",
    "Silent",
    "Status",
    "calibrate",
    "configure",
    "goals",
    "measure",
    "resume",
    "search",
    "start",
    "write_table",
]
