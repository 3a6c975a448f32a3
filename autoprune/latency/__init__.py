"""What cutting each group saves on one device: tables, measured end to end, and their bias."""

from autoprune.latency.arithmetic import Arithmetic
from autoprune.latency.calibrate import FOR_A_SEARCH, Calibration, Effort, arithmetic, kept_units
from autoprune.latency.regress import Regression, measurement_noise
from autoprune.latency.store import Store
from autoprune.latency.table import Bias, Cell, LatencyTable, Observation, PrecisionTable

__all__ = [
    "FOR_A_SEARCH",
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
    "arithmetic",
    "kept_units",
    "measurement_noise",
]
