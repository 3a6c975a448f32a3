"""What one inference costs in energy, by the board's own sensors.

A session runs without a pause in ``PARTS`` parts of ``PART_SECONDS``. The energy of an inference in a part is the mean
power over it times the seconds of an inference; the parts' median counts, with its 95 % interval. Before that the
device rests for ``IDLE_SECONDS`` with the model loaded: what is drawn then is part of the total, and is reported beside
it, as is what is drawn above it. The total counts as the objective: it is what a battery pays, and no difference of two
readings.
"""

from __future__ import annotations

import math
import statistics
import time
from typing import Any

from autoprune.devices._base import Session
from autoprune.devices._wire import Connection
from autoprune.devices._worker import Plain, Worker
from autoprune.devices.timing import median_interval
from autoprune.errors import DeviceError, StageError, TargetError
from autoprune.records import Energy

POWER = Plain("power")
ROOT = "/"  # of what is read there
PARTS, PART_SECONDS, IDLE_SECONDS = 6, 0.35, 1.0
LONGEST = 200


class Meter:
    """Watches the power of what is behind ``connection``.

    Raises:
        TargetError: it has nothing that can be read.
    """

    def __init__(self, connection: Connection, *, gpu: bool) -> None:
        self._name = connection.name
        self._worker = Worker(connection, POWER)
        self.source = str(self._ask("sensors", root=ROOT, gpu=gpu).get("source", ""))[:LONGEST]
        if not self.source:
            self.close()
            raise TargetError(
                f"Target '{self._name}' does not say what it draws, so 'energy_mj' cannot be an objective: autoprune "
                "reads INA sensors (Jetson), NVIDIA GPUs, and RAPL counters, which are often readable for root alone."
            )

    def watch(self) -> None:
        """From now on."""
        self._ask("watch")

    def watts(self) -> float:
        """Mean power since `watch`. Raises DeviceError where it cannot be."""
        reply = self._ask("watched")
        joules, seconds = _positive(reply.get("joules")), _positive(reply.get("seconds"))
        if joules is None or seconds is None:
            raise DeviceError(f"Device '{self._name}' gave no power that can be: {str(reply)[:LONGEST]}.")
        return joules / seconds

    def _ask(self, do: str, **fields: Any) -> dict[str, Any]:
        """The reply; what goes wrong with sensors is no fault of a candidate."""
        try:
            return self._worker.ask(do, **fields)[0]
        except StageError as error:
            raise DeviceError(f"Device '{self._name}' cannot say what it draws: {error}") from error

    def close(self) -> None:
        """No longer."""
        self._worker.close()


def measure_energy(session: Session, meter: Meter) -> Energy:
    """The energy of one inference. Raises DeviceError: the sensors cannot be right; whatever the session raises."""
    fastest = min(session.run(3))
    runs = max(1, math.ceil(PART_SECONDS / fastest))
    meter.watch()
    time.sleep(IDLE_SECONDS)
    idle_w = meter.watts()
    session.run(max(1, runs // 3))  # so that clocks are up
    watts, millijoules, seconds = [], [], []
    for _ in range(PARTS):
        meter.watch()
        samples = session.run(runs)
        watts.append(meter.watts())
        seconds.append(statistics.fmean(samples))
        millijoules.append(1e3 * watts[-1] * seconds[-1])
    low, high = median_interval(millijoules)
    total = statistics.median(millijoules)
    return Energy(
        total_mj=total,
        low_mj=low,
        high_mj=high,
        above_idle_mj=total - 1e3 * idle_w * statistics.median(seconds),
        power_w=statistics.median(watts),
        idle_w=idle_w,
        n=PARTS * runs,
        source=meter.source,
    )


def _positive(found: Any) -> float | None:
    good = isinstance(found, int | float) and not isinstance(found, bool) and math.isfinite(found) and found > 0
    return float(found) if good else None
