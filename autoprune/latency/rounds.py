"""One round of timing: models beside each other and beside the dense one, as shares of its latency."""

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

DENSE_MODELS = 3  # all of a round is a share of what they say, so that their noise is everybody's


@dataclass(frozen=True)
class Round:
    """Latencies that were measured together, by the names of the models; `REFERENCE` begins those of the dense one."""

    timed: Mapping[str, Measurement]

    @cached_property
    def reference_ms(self) -> float:
        """The mean over the dense models."""
        return float(np.mean([one.median_ms for name, one in self.timed.items() if name.startswith(REFERENCE)]))

    def share(self, name: str) -> float:
        """Of the dense FP32 model's latency."""
        return self.timed[name].median_ms / self.reference_ms


def time_round(evaluator: Evaluator, artifacts: Mapping[str, Artifact], policy: TimingPolicy) -> Round:
    """Time ``artifacts`` and the dense model, loaded `DENSE_MODELS` times, interleaved. Raises as `Evaluator.time`."""
    dense = {f"{REFERENCE} {n}": evaluator.reference for n in range(1, DENSE_MODELS)}  # `time` adds one
    return Round(evaluator.time({**artifacts, **dense}, policy))
