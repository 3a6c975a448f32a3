"""What a board draws while something runs: in a worker of the agent, beside the one that runs.

Sources, the first that can be read: the rails of INA sensors in ``hwmon`` (volts times amperes, or watts; a rail called
VDD_IN is all of a Jetson, else the rails are added), an NVIDIA GPU's ``power.draw`` where the GPU counts (of the card,
not of the machine), and Intel's RAPL counters of the processor packages (``energy_uj``, which only root may read since
2020).
"""

from __future__ import annotations

import glob
import os
import threading
import time
from typing import Any, Callable

from autoprune.devices.runners._system import read, run

COMMAND_SECONDS = 5.0
PERIOD_SECONDS = 0.02
WHOLE = "VDD_IN"
NO_RAILS = ("NC", "sum of shunt voltages")
INA = ("ina3221", "ina219", "ina226", "ina230", "ina231", "ina260", "ina238")


class Sensors:
    """Reads below ``root``: the watts of ``power``, or the joules that are ``counted``; ``source`` is empty without."""

    def __init__(self, root: str, *, gpu: bool) -> None:
        self._root = root
        self._rails = self._found_rails()
        self._zones: list[str] = []
        self.source, self.power = "", self._rail_watts
        if self._rails:
            self.source = "INA sensors: " + ", ".join(name for name, _ in self._rails)
        elif gpu and gpu_watts() is not None:
            self.source, self.power = "NVIDIA GPU", gpu_watts
        else:
            zones = self._paths("sys/class/powercap/intel-rapl:?")
            self._zones = [zone for zone in zones if _number(zone + "/energy_uj") is not None]
            self.source = "RAPL: " + ", ".join(read(zone + "/name") for zone in self._zones) if self._zones else ""

    def _found_rails(self) -> list[tuple[str, tuple[str, ...]]]:
        """Name, and the files whose product is microwatts."""
        rails: list[tuple[str, tuple[str, ...]]] = []
        for folder in self._paths("sys/class/hwmon/hwmon*"):
            if read(folder + "/name") not in INA:
                continue
            watts = sorted(glob.glob(folder + "/power*_input"))
            rails += [(read(folder + "/name"), (path,)) for path in watts]
            for path in [] if watts else sorted(glob.glob(folder + "/curr*_input")):
                volts = path.replace("/curr", "/in")
                name = read(volts.replace("_input", "_label")) or os.path.basename(volts)
                if name not in NO_RAILS and os.path.exists(volts):
                    rails.append((name, (volts, path)))
        return [rail for rail in rails if rail[0] == WHOLE] or rails

    def _rail_watts(self) -> float | None:
        total = 0.0
        for _, paths in self._rails:
            product = 1e-6
            for path in paths:
                one = _number(path)
                if one is None:
                    return None
                product *= one
            total += product
        return total

    def counted(self) -> list[float]:
        """Joules so far, of each counter."""
        return [(_number(zone + "/energy_uj") or 0.0) / 1e6 for zone in self._zones]

    def since(self, before: list[float]) -> float:
        """Joules since then; a counter that has less now began again meanwhile."""
        total = 0.0
        for zone, was, now in zip(self._zones, before, self.counted()):
            wrapped = (_number(zone + "/max_energy_range_uj") or 0.0) / 1e6 if now < was else 0.0
            total += now - was + wrapped
        return total

    def _paths(self, pattern: str) -> list[str]:
        return sorted(glob.glob(os.path.join(self._root, pattern)))


class Watch(threading.Thread):
    """Samples power until it is stopped; joules are the area below, by the trapezoidal rule."""

    def __init__(self, power: Callable[[], float | None]) -> None:
        super().__init__(daemon=True)
        self._power, self._enough = power, threading.Event()
        self.samples: list[tuple[float, float]] = []
        self._take()

    def _take(self) -> None:
        watts = self._power()
        if watts is not None:
            self.samples.append((time.monotonic(), watts))

    def run(self) -> None:
        """Until `joules` is asked for."""
        while not self._enough.wait(PERIOD_SECONDS):
            self._take()

    def joules(self) -> float:
        """Stop, and sum up."""
        self._enough.set()
        self.join()
        self._take()
        pairs = zip(self.samples, self.samples[1:])
        return sum((after - before) * (one + other) / 2 for (before, one), (after, other) in pairs)


class Runner:
    """Answers ``sensors``, then ``watch`` and ``watched`` in turn; without an artifact."""

    def __init__(self, path: str, options: dict[str, Any], data: bytes) -> None:
        """Nothing is read."""
        self._sensors: Sensors | None = None
        self._watch: Watch | None = None
        self._began = 0.0
        self._counted: list[float] = []

    def do_hello(self, request: dict[str, Any], data: bytes) -> tuple[dict[str, Any], bytes]:
        """Nothing yet."""
        return {}, b""

    def do_sensors(self, request: dict[str, Any], data: bytes) -> tuple[dict[str, Any], bytes]:
        """What is read: ``root`` is where /sys is, ``gpu`` whether the GPU counts."""
        self._sensors = Sensors(str(request["root"]), gpu=bool(request.get("gpu")))
        return {"source": self._sensors.source}, b""

    def do_watch(self, request: dict[str, Any], data: bytes) -> tuple[dict[str, Any], bytes]:
        """From now on."""
        self._began, self._counted = time.monotonic(), self._the_sensors.counted()
        self._watch = None
        if not self._counted:
            self._watch = Watch(self._the_sensors.power)
            self._watch.start()
        return {}, b""

    def do_watched(self, request: dict[str, Any], data: bytes) -> tuple[dict[str, Any], bytes]:
        """Joules and seconds since ``watch``."""
        watch = self._watch
        joules = watch.joules() if watch else self._the_sensors.since(self._counted)
        return {"joules": joules, "seconds": time.monotonic() - self._began}, b""

    @property
    def _the_sensors(self) -> Sensors:
        if self._sensors is None:
            raise ValueError("nothing was said of sensors yet")
        return self._sensors


def gpu_watts() -> float | None:
    """Of the first NVIDIA GPU."""
    query = ("--id=0", "--query-gpu=power.draw", "--format=csv,noheader,nounits")
    worked, out, _ = run("nvidia-smi", *query, seconds=COMMAND_SECONDS)
    try:
        return float(out) if worked else None
    except ValueError:
        return None


def _number(path: str) -> float | None:
    try:
        return float(read(path))
    except ValueError:
        return None
