"""What cutting each group saves on one device: tables, measured end to end, and their bias."""

from autoprune.latency.calibrate import Calibration, Effort
from autoprune.latency.regress import Arithmetic, Regression
from autoprune.latency.store import Store
from autoprune.latency.table import Bias, Cell, LatencyTable, Observation, PrecisionTable

__all__ = [
    "Arithmetic",
    "Bias",
    "Calibration",
    "Cell",
    "Effort",
    "LatencyTable",
    "Observation",
    "PrecisionTable",
    "Regression",
    "Store",
]
