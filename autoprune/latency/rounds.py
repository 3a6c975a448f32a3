"""One round of timing: models of one precision beside each other and beside the dense one, as shares of its latency."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np

from autoprune.devices.steadiness import REFERENCE

if TYPE_CHECKING:
    from autoprune.evaluate import Evaluator
    from autoprune.hardware import TimingPolicy
    from autoprune.records import Artifact, Measurement

DENSE = "dense"
DENSE_MODELS = 3  # all of a round is a share of what they say, so that their noise is everybody's


@dataclass(frozen=True)
class Round:
    """Latencies that were measured together, by the names of the models.

    `DENSE` begins those of the dense model in their precision, `REFERENCE` those of the dense FP32 one.
    """

    timed: Mapping[str, Measurement]

    @cached_property
    def reference_ms(self) -> float:
        """What the dense FP32 model took: the mean over all of them."""
        return self._mean_ms(REFERENCE)

    @cached_property
    def dense_ms(self) -> float:
        """What the dense model in the precision of the round took."""
        return self._mean_ms(DENSE) if any(name.startswith(DENSE) for name in self.timed) else self.reference_ms

    def share(self, name: str) -> float:
        """Of the latency of the dense model in the precision of the round."""
        return self.timed[name].median_ms / self.dense_ms

    def _mean_ms(self, start: str) -> float:
        return float(np.mean([one.median_ms for name, one in self.timed.items() if name.startswith(start)]))


def time_round(
    evaluator: Evaluator, artifacts: Mapping[str, Artifact], policy: TimingPolicy, *, dense: Artifact
) -> Round:
    """Time ``artifacts`` and ``dense``, the dense model in their precision, loaded `DENSE_MODELS` times, interleaved.

    Where that is another precision, the dense FP32 model is timed once besides. Raises as `Evaluator.time`.
    """
    if dense == evaluator.reference:
        more = {f"{REFERENCE} {n}": dense for n in range(1, DENSE_MODELS)}  # `time` adds one
    else:
        more = {f"{DENSE} {n}": dense for n in range(DENSE_MODELS)}
    return Round(evaluator.time({**artifacts, **more}, policy))
