"""Artifact -> Measurement: one timing loop, one file per runtime and per way to a device; entry points add runtimes."""

from autoprune.devices._base import Arrays, Circumstances, Device, OperatorTime, Predict, Session
from autoprune.devices.gains import gains
from autoprune.devices.lease import lease
from autoprune.devices.registry import Runtime, list_runtimes, open_device
from autoprune.devices.smoke import smoke
from autoprune.devices.timing import measure, measure_together

__all__ = [
    "Arrays",
    "Circumstances",
    "Device",
    "OperatorTime",
    "Predict",
    "Runtime",
    "Session",
    "gains",
    "lease",
    "list_runtimes",
    "measure",
    "measure_together",
    "open_device",
    "smoke",
]
