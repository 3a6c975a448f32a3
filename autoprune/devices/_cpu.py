"""What other work takes of this machine's processor."""

import os
import time

import psutil

IDLE = ("idle", "iowait", "guest", "guest_nice")


def foreign_seconds() -> float:
    """CPU seconds that other processes (and a hypervisor's other guests) have used so far, divided by the cores."""
    times = psutil.cpu_times()._asdict()
    busy = sum(seconds for name, seconds in times.items() if name not in IDLE)
    return float(busy - time.process_time()) / (os.cpu_count() or 1)
