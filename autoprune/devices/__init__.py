"""Artifact -> Measurement: one timing loop, one file per runtime. Third parties add runtimes by an entry point."""

from autoprune.devices._base import Arrays, Circumstances, Device, OperatorTime, Predict, Session
from autoprune.devices.lease import lease
from autoprune.devices.registry import Runtime, open_device, runtimes
from autoprune.devices.timing import measure, measure_together

__all__ = [
    "Arrays",
    "Circumstances",
    "Device",
    "OperatorTime",
    "Predict",
    "Runtime",
    "Session",
    "lease",
    "measure",
    "measure_together",
    "open_device",
    "runtimes",
]
