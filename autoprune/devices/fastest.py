"""What is known of a latency that does not settle: the fastest runs, stretch by stretch.

Disturbance only adds time. Beside a neighbour that leaves no pause as long as a block, whatever is of blocks moves with
how busy it is, and single runs still meet a pause now and then. Measured in 240 s beside one that was busy for 85 % of
the time, dense and pruned ResNet-56 of 0.5 to 4 ms in turns, 8 s for each: speed-ups of medians of the quietest blocks
had standard deviations of 7 to 16 %, of fastest runs 2.5 to 6; of 12 s for each 1 to 4.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np


@dataclass
class FastestRuns:
    """Of at most ``stretches`` of the time, in blocks, the ``counted`` with the fastest runs count."""

    counted: int
    stretches: int
    seconds: list[float] = field(default_factory=list)  # of the fastest run of every block

    def begin_block(self) -> None:
        """What is added from here on is of one more block."""
        self.seconds.append(float("inf"))

    def add(self, samples: Sequence[float]) -> None:
        """Runs of the last block, in seconds."""
        self.seconds[-1] = min(self.seconds[-1], *samples)

    @property
    def lowest(self) -> list[float]:
        """Seconds of those that count, from the lowest."""
        return sorted(self._by_stretch())[: self.counted]

    @property
    def width_percent(self) -> float:
        """How far apart the lowest are."""
        return 100 * (self.lowest[-1] / self.lowest[0] - 1)

    @property
    def slower_and_slower(self) -> bool:
        """Whether all that count are of the first half of the time."""
        found = self._by_stretch()
        return min(found[len(found) // 2 :]) > self.lowest[-1]

    def _by_stretch(self) -> list[float]:
        parts = np.array_split(self.seconds, min(self.stretches, len(self.seconds)))
        return [float(part.min()) for part in parts]
