"""The timing loop. It exists once; a runtime supplies only `Session.run`.

After a warm-up, samples are taken in blocks of ``block_ms``. Of the last ``3 * blocks`` blocks, the ``blocks`` with the
lowest medians count; when those medians lie within ``settle_percent`` of each other, the latency has settled. On a
quiet machine the first ``blocks`` blocks do. Otherwise more blocks are taken, because disturbance only ever adds time,
and the window moves on, because a device that throttles must be able to settle at its lasting speed.

Other work on the device is watched through `Session.foreign_seconds`. A block beside which it took more than
``FOREIGN_SHARE`` of the device is loud; quiet blocks are preferred, and a result that loud blocks entered, or for which
most blocks had to be dropped, is marked as disturbed.

The interval is by order statistics over the block medians: with 7 blocks, the lowest and the highest enclose the median
with a confidence of 98 %. It covers the noise within one session.
"""

import math
import random
import statistics
import time
from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import cached_property

import numpy as np

from autoprune.devices._base import Circumstances, Session
from autoprune.errors import StageError
from autoprune.hardware import TimingPolicy
from autoprune.records import Measurement

FOREIGN_SHARE = 0.2
CONFIDENCE = 0.95
WINDOW = 3
STORED_SAMPLES = 1000


@dataclass(frozen=True)
class Block:
    """Samples taken in one go, in seconds, and the share of the device that other work took meanwhile."""

    samples: list[float]
    foreign_share: float

    @cached_property
    def median(self) -> float:
        return statistics.median(self.samples)

    @property
    def loud(self) -> bool:
        return self.foreign_share > FOREIGN_SHARE


def measure(session: Session, policy: TimingPolicy, circumstances: Circumstances) -> Measurement:
    """The latency of one session.

    Raises:
        StageError: kind ``unsettled``: it has not settled within ``policy.max_seconds``; kind ``clock``: the samples
            cannot be durations (negative, zero, not finite, all the same).
    """
    return measure_together({"": session}, policy, {"": circumstances})[""]


def measure_together(
    sessions: Mapping[str, Session],
    policy: TimingPolicy,
    circumstances: Mapping[str, Circumstances],
    *,
    seed: int = 0,
) -> dict[str, Measurement]:
    """The latencies of several sessions, their blocks interleaved in random order so that a drift meets all alike.

    The first that settles goes on until the last has. ``policy.max_seconds`` holds for each. Raises as `measure`.
    """
    order = random.Random(seed)  # noqa: S311 - not cryptography
    timers = {name: _Timer(session, policy) for name, session in sessions.items()}
    while not all(timer.done for timer in timers.values()):
        for timer in order.sample(list(timers.values()), len(timers)):
            timer.add_block()
    return {name: timer.summarise(circumstances[name]) for name, timer in timers.items()}


class _Timer:
    """The blocks of one session, and whether they suffice."""

    def __init__(self, session: Session, policy: TimingPolicy) -> None:
        self.session, self.policy = session, policy
        self.window: deque[Block] = deque(maxlen=WINDOW * policy.blocks)
        self.spent = 0.0
        self.runs_per_block = self._warm_up()

    def _warm_up(self) -> int:
        """Run for ``warmup_ms``; how many runs a block needs."""
        n, warmed = 1, 0.0
        while True:
            samples = self._run(n)
            warmed += sum(samples)
            if warmed >= self.policy.warmup_ms / 1e3:
                break
            n = min(2 * n, math.ceil((self.policy.warmup_ms / 1e3 - warmed) / min(samples)))
        return max(self.policy.min_block_runs, math.ceil(self.policy.block_ms / 1e3 / statistics.median(samples)))

    def _run(self, n: int) -> list[float]:
        began = time.monotonic()
        samples = self.session.run(n)
        if len(samples) != n or not all(math.isfinite(sample) and sample > 0 for sample in samples):
            raise StageError(
                "The clock of the device cannot be trusted: it gave a duration that is not positive.", kind="clock"
            )
        self.spent += max(time.monotonic() - began, sum(samples))
        return samples

    def add_block(self) -> None:
        """Take one more block; the first run after a pause finds cold caches and does not count."""
        self._run(1)
        foreign, began = self.session.foreign_seconds(), time.monotonic()
        samples = self._run(self.runs_per_block)
        elapsed, after = time.monotonic() - began, self.session.foreign_seconds()
        share = (after - foreign) / elapsed if foreign is not None and after is not None else 0.0
        self.window.append(Block(samples, share))

    @property
    def done(self) -> bool:
        """Whether the blocks suffice. Raises StageError when they never will."""
        if len(self.window) < self.policy.blocks:
            return False
        if self.spread_percent <= self.policy.settle_percent:
            return not self.disturbed or len(self.window) == self.window.maxlen
        if self.spent > self.policy.max_seconds:
            raise StageError(
                f"The latency did not settle in {self.policy.max_seconds:g} s: the medians of the "
                f"{self.policy.blocks} quietest blocks still differ by {self.spread_percent:.1f} %.",
                kind="unsettled",
            )
        return False

    def counted(self) -> list[Block]:
        """The blocks that count, in the order taken: the lowest medians, of quiet blocks where there are enough."""
        quiet = [block for block in self.window if not block.loud]
        pool = quiet if len(quiet) >= self.policy.blocks else list(self.window)
        limit = sorted(block.median for block in pool)[self.policy.blocks - 1]
        return [block for block in pool if block.median <= limit][: self.policy.blocks]

    @property
    def spread_percent(self) -> float:
        medians = [block.median for block in self.counted()]
        return 100 * (max(medians) / min(medians) - 1)

    @property
    def disturbed(self) -> bool:
        counted = self.counted()
        limit = min(block.median for block in counted) * (1 + self.policy.settle_percent / 100)
        dropped = sum(block.median > limit for block in self.window)
        return any(block.loud for block in counted) or dropped > len(self.window) / 2

    def summarise(self, circumstances: Circumstances) -> Measurement:
        counted = self.counted()
        samples = 1e3 * np.concatenate([block.samples for block in counted])
        if np.ptp(samples) == 0:
            raise StageError("The clock of the device cannot be trusted: all durations are the same.", kind="clock")
        low, high = median_interval([1e3 * block.median for block in counted])
        return Measurement(
            source="measured",
            n=len(samples),
            median_ms=float(np.median(samples)),
            p90_ms=float(np.quantile(samples, 0.90)),
            p99_ms=float(np.quantile(samples, 0.99)),
            low_ms=low,
            high_ms=high,
            cv_percent=float(100 * samples.std() / samples.mean()),
            disturbed=self.disturbed,
            samples_ms=tuple(samples[:: math.ceil(len(samples) / STORED_SAMPLES)].tolist()),
            **asdict(circumstances),
        )


def median_interval(values: Sequence[float]) -> tuple[float, float]:
    """The 95 % interval of the median, distribution-free: the narrowest symmetric pair of order statistics.

    Below 6 values even the extremes do not reach 95 % and are given. Source: the binomial argument, e.g. Le Boudec,
    Performance Evaluation of Computer and Communication Systems, theorem 2.1.
    """
    ordered, n = sorted(values), len(values)
    outside, rank = 2 / 2**n, 0
    while outside + 2 * math.comb(n, rank + 1) / 2**n <= 1 - CONFIDENCE:
        rank += 1
        outside += 2 * math.comb(n, rank) / 2**n
    return ordered[rank], ordered[n - 1 - rank]
