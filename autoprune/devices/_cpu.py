"""What can be read of this machine's processor: what it is, and how it is at the moment."""

import os
import platform
import time
from pathlib import Path

import psutil

FLAGS = (
    "avx2",
    "avx512f",
    "avx512_vnni",
    "avx512_bf16",
    "avx_vnni",
    "amx_tile",
    "amx_int8",
    "amx_bf16",
    "asimd",
    "asimddp",
    "i8mm",
    "sve",
)
IDLE = ("idle", "iowait", "guest", "guest_nice")
CPUFREQ = Path("/sys/devices/system/cpu/cpu0/cpufreq")


def foreign_seconds() -> float:
    """CPU seconds that other processes (and a hypervisor's other guests) have used so far, divided by the cores."""
    times = psutil.cpu_times()._asdict()
    busy = sum(seconds for name, seconds in times.items() if name not in IDLE)
    return float(busy - time.process_time()) / (os.cpu_count() or 1)


def cpu_facts() -> dict[str, str]:
    """Model, vector flags, cores, operating system."""
    info = _cpuinfo()
    flags = (info.get("flags") or info.get("Features") or "").split()
    return {
        "cpu": info.get("model name") or platform.processor() or platform.machine(),
        "flags": " ".join(flag for flag in FLAGS if flag in flags),
        "cores": str(os.cpu_count()),
        "os": f"{platform.system()} {platform.machine()}",
    }


def cpu_conditions() -> dict[str, str]:
    """Kernel, load, clock, governor and temperature: those that can be read."""
    clocks = psutil.cpu_freq(percpu=True) if hasattr(psutil, "cpu_freq") else []
    found = {
        "kernel": platform.release(),
        "load": f"{os.getloadavg()[0]:.2f}",
        "clock_mhz": " ".join(f"{clock.current:.0f}" for clock in clocks),
        "governor": _read(CPUFREQ / "scaling_governor"),
        "temperature_c": _temperature(),
    }
    return {name: value for name, value in found.items() if value}


def _temperature() -> str:
    sensors = psutil.sensors_temperatures() if hasattr(psutil, "sensors_temperatures") else {}
    readings = [reading.current for group in sensors.values() for reading in group]
    return f"{max(readings):.0f}" if readings else ""


def _cpuinfo() -> dict[str, str]:
    """The first processor of /proc/cpuinfo; empty where there is none."""
    first = _read(Path("/proc/cpuinfo")).split("\n\n")[0]
    pairs = (line.partition(":") for line in first.splitlines())
    return {name.strip(): value.strip() for name, _, value in pairs}


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8").strip()
    except OSError:
        return ""
