"""The timing loop. It exists once; a runtime supplies only a `Session`.

After a warm-up, samples are taken in blocks of ``block_ms``, and the ``blocks`` with the lowest medians count. The
latency has settled when the 95 % interval of their median is within ``settle_percent``, and the median within 10 times
that of the fastest tenth of the samples: a session that is preempted in most runs has steady medians, which are wrong.
On a quiet machine the first ``blocks`` blocks do. Otherwise more are taken, because disturbance only ever adds time:
``WINDOW * blocks`` where most are disturbed, and where it has not settled by then, more, of which the last
``LONGEST * blocks`` are looked at: a device that throttles must be able to settle at its lasting speed. Twice as many
as that ``WINDOW``, because beside a busy neighbour speed-ups in INT8 then repeat to 3 and 10 % where they did to 12 and
18 (standard deviations over six turns of 20 s each, pruned ResNet-56 against the dense one).

Before each block the session is renewed: loaded again, elsewhere in memory. Where weights and activations happen to lie
changes the latency of a small network by about 1 %, more than the noise within a session, so an interval from one
session is far too narrow: measured on convolutions of 0.1 and 0.8 ms, it covered the median over all sessions in 12 and
25 % of the cases, with renewal in 91 and 94 %. The idea is that of Stabilizer (Curtsinger and Berger, ASPLOS 2013).
All of the session before is freed first. Where its outputs outlived the loading of the next, ResNet-56 in INT8 was 4 to
5 % slower than in sessions that are never renewed, for 0.7 to 1.5, and that only after some blocks: of eight
interleaved sessions the first blocks were 5 % faster than the last of 24 in INT8, and 4 % in FP32, for 0 to 2. What is
left of it goes where sessions that are timed together are renewed up to `CHURNS` times before the first: models cut to
less than 0.45 then have shares of the dense one's latency in the first six blocks of 18 that are 0.15 % higher than in
all, for 0.55.

What the system cannot see also slows a device down: on a virtual machine, a neighbour on the other thread of its core,
for moments or seconds, INT8 by 1.9 and FP32 by 1.3. So a block that is slower than the fastest by ``SLOWED`` is taken
again in the same session, which takes longer to load than a block does, until it is not or ``PATIENCE_S`` have passed.
Again for only ``AGAIN_MS``, as such a neighbour may be still for no longer: beside one that was busy for 75 % of the
time, pairs of digits' models then had intervals of 5 % for 25, and 1 of 28 did not settle, for 3; of ResNet-56's 5 of
14, for 8. Where that does not help the patience halves, and doubles where it does: on a device that throttles, or in a
session that is slower for where it lies in memory, it is in vain. After a block that needs none, some is there again.

A model of some milliseconds may meet no pause of such a neighbour that is long enough for it to settle. After
``max_seconds`` its `FastestRuns` stand for it, marked as disturbed, where they are no further apart than
``tolerate_percent``; and those of all that was timed beside it, so that speed-ups stay fair. Where runs only got slower
nothing does: what drifts has no latency yet.

Where blocks were dropped, the interval reaches from the lowest block to the median over all of the window: disturbance
only adds time, so the undisturbed median lies between.

A tool that prints one figure over its runs gives blocks of one sample, `Session.statistic`. The median, its interval
and whether it has settled are then of those figures, and so are p90, p99 and the coefficient of variation, which are
smaller than those of single inferences; the conditions of the measurement say so. That all figures are the same means
that the tool rounds them, or makes them up; both are refused.

Other work on the device is watched through `Session.foreign_seconds`. A block beside which it took more than
``FOREIGN_SHARE`` of the device is loud; quiet blocks are preferred. A result is marked as disturbed that loud blocks
entered, beside which more than ``LOUD_SHARE`` of the blocks were loud (work that comes and goes leaves its traces in
caches and clocks), for which most blocks had to be dropped or taken again, or that has not settled.
"""

import math
import random
import statistics
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from functools import cached_property, partial

import numpy as np

from autoprune.devices._base import Circumstances, Session
from autoprune.devices.fastest import FastestRuns
from autoprune.errors import StageError
from autoprune.hardware import TimingPolicy
from autoprune.records import UNSETTLED, Measurement

FOREIGN_SHARE = 0.2
LOUD_SHARE = 0.25
PREEMPTED = 10  # times settle_percent
CONFIDENCE = 0.95
WINDOW, LONGEST = 3, 6  # times blocks
SLOWED = 0.05  # of the fastest block's median
PATIENCE_S, SOME_PATIENCE_S, AGAIN_MS = 0.5, 0.03, 1.0
LEAD_IN_SECONDS, LEAD_IN_RUNS = 0.002, 2  # first runs of a fresh session: up to 50 % slower, then 5, 1.4, 0.6 %
CHURNS, CHURN_S = 6, 0.5  # renewals of each session, and seconds for all
STORED_SAMPLES = 1000


def measure(session: Session, policy: TimingPolicy, circumstances: Circumstances) -> Measurement:
    """The latency of one session.

    Raises:
        StageError: kind ``unsettled``: it has not settled, and its fastest runs do not tell it either; kind ``clock``:
            the samples cannot be durations (negative, zero, not finite, all the same); whatever the session raises.
    """
    return measure_together({"": session}, policy, {"": circumstances})[""]


def measure_together(
    sessions: Mapping[str, Session],
    policy: TimingPolicy,
    circumstances: Mapping[str, Circumstances],
    *,
    seed: int = 0,
    look: Callable[[], None] = lambda: None,
) -> dict[str, Measurement]:
    """The latencies of several sessions, their blocks interleaved in random order so that a drift meets all alike.

    All go on until the last has settled or is told by its fastest runs; the times of ``policy`` hold for each. ``look``
    is called between the blocks. Raises as `measure`, and what ``look`` raises.
    """
    order = random.Random(seed)  # noqa: S311 - not cryptography
    timers = {name: _Timer(session, policy) for name, session in sessions.items()}
    _churn(list(sessions.values()))
    while not all(timer.done for timer in timers.values()):
        for timer in order.sample(list(timers.values()), len(timers)):
            timer.add_block()
        look()
    settled = all(timer.settled for timer in timers.values())
    return {name: timer.summarise(circumstances[name], settled=settled) for name, timer in timers.items()}


def _churn(sessions: Sequence[Session]) -> None:
    """Renew them until the memory that they share is as it is in all blocks but the first; slow loaders less often."""
    sharing, began = [session for session in sessions if not session.anew], time.monotonic()
    for _ in range(CHURNS if len(sharing) > 1 else 0):
        if time.monotonic() > began + CHURN_S:
            break
        for session in sharing:
            session.renew()


@dataclass(frozen=True)
class Block:
    """Samples taken in one go, in seconds, and the share of the device that other work took meanwhile.

    ``retaken``: others of this session were slowed down, and are not kept.
    """

    samples: list[float]
    foreign_share: float
    retaken: bool = False

    @cached_property
    def median(self) -> float:
        return statistics.median(self.samples)

    @property
    def loud(self) -> bool:
        return self.foreign_share > FOREIGN_SHARE


class _Timer:
    """The blocks of one session, and whether they suffice."""

    def __init__(self, session: Session, policy: TimingPolicy) -> None:
        self.session, self.policy = session, policy
        self.window: deque[Block] = deque(maxlen=LONGEST * policy.blocks)
        self.fastest = FastestRuns(counted=policy.blocks, stretches=LONGEST * policy.blocks)
        self.spent, self.patience = 0.0, PATIENCE_S
        fastest = self._warm_up()
        self.block_runs = self._runs(policy.block_ms, fastest)
        self.lead_in_runs = max(LEAD_IN_RUNS, math.ceil(LEAD_IN_SECONDS / fastest))
        self.runs_again = self.block_runs if session.anew else self._runs(min(AGAIN_MS, policy.block_ms), fastest)

    def _runs(self, ms: float, fastest: float) -> int:
        return max(self.policy.min_block_runs, math.ceil(ms / 1e3 / fastest))

    def _warm_up(self) -> float:
        """Run for ``warmup_ms``; the seconds of the fastest run, as the others may have met other work.

        What begins anew warms itself up: it only has to show how long a run takes, once by one run, then by many.
        """
        n, fastest, left = 1, math.inf, self.policy.warmup_ms / 1e3
        turns = 2 if self.session.anew else math.inf
        while left > 0 and turns > 0:
            began = time.monotonic()
            samples = self._checked(self.session.run(n), n, began)
            left -= _total(samples, n)
            fastest = min(fastest, *samples)
            wanted = max(1, math.ceil(left / fastest))
            n, turns = wanted if self.session.anew else min(2 * n, wanted), turns - 1
        return fastest

    def _checked(self, samples: list[float], n: int, began: float) -> list[float]:
        """Samples of ``n`` runs. Time is what passed here or what the device says, whichever is longer."""
        wanted = n if self.session.statistic == "each" else 1
        if len(samples) != wanted or not all(math.isfinite(sample) and sample > 0 for sample in samples):
            raise StageError(
                "The clock of the device cannot be trusted: it gave durations that are not positive numbers.",
                kind="clock",
            )
        self.spent += max(time.monotonic() - began, _total(samples, n))
        return samples

    def add_block(self) -> None:
        """Take one more block, in a fresh session; again and again in the same while something slows it down."""
        self.fastest.begin_block()
        first = self._block(partial(self.session.block, self.lead_in_runs), self.block_runs)
        if self._slowed(first):
            best = self._patient(first)
        else:
            best, self.patience = first, max(self.patience, SOME_PATIENCE_S)
        self.window.append(replace(best, retaken=best is not first))

    def _patient(self, block: Block) -> Block:
        """The first that is not slowed down, or the fastest that came within the patience; learns from which it was."""
        until = self.spent + self.patience
        while self._slowed(block) and self.spent + self.runs_again * block.median < until:
            block = min(block, self._block(self.session.watched, self.runs_again), key=lambda one: one.median)
        self.patience = self.patience / 2 if self._slowed(block) else min(2 * self.patience, PATIENCE_S)
        return block

    def _slowed(self, block: Block) -> bool:
        fastest = min((one.median for one in self.window), default=math.inf)
        return block.median > (1 + SLOWED) * fastest

    def _block(self, take: Callable[[int], tuple[list[float], float | None]], runs: int) -> Block:
        began = time.monotonic()
        samples, foreign = take(runs)
        self.fastest.add(self._checked(samples, runs, began))
        return Block(samples, (foreign or 0.0) / _total(samples, runs))

    @property
    def done(self) -> bool:
        """Whether the blocks suffice. Raises StageError when they do not and time is up."""
        if self.settled:
            return not self._disturbed() or len(self.window) >= WINDOW * self.policy.blocks
        if self.spent > self.policy.max_seconds and self._tolerable():
            return True
        if self.spent > self.policy.give_up_s:
            raise StageError(self._complaint(), kind="unsettled")
        return False

    @property
    def settled(self) -> bool:
        """Whether the latency is that of the blocks."""
        return (
            len(self.window) >= self.policy.blocks
            and self._width_percent() <= self.policy.settle_percent
            and not self._preempted()
        )

    def _preempted(self) -> bool:
        return self._preempted_percent() > PREEMPTED * self.policy.settle_percent

    def _tolerable(self) -> bool:
        return (
            len(self.window) >= self.policy.blocks
            and self.fastest.width_percent <= self.policy.tolerate_percent
            and not self.fastest.slower_and_slower
            and not self._preempted()
        )

    def _complaint(self) -> str:
        policy, taken = self.policy, len(self.window)
        if taken < policy.blocks:
            found = f"only {taken} of {policy.blocks} blocks could be taken"
        elif self._preempted() and self._width_percent() <= policy.settle_percent:
            found = f"the median is still {self._preempted_percent():.0f} % above the fastest tenth of the runs"
        else:
            width = f"over the {policy.blocks} quietest blocks its 95 % interval is still {self._width_percent():.1f} %"
            found = f"{width} wide" + (", and those since are all slower" if self.fastest.slower_and_slower else "")
        return (
            f"The latency did not settle in {policy.give_up_s:g} s: {found}. Free the device of other work, "
            f"or raise timing.max_seconds or timing.tolerate_percent in the hardware profile."
        )

    def _counted(self) -> list[Block]:
        """The blocks that count, in the order taken: the lowest medians, of quiet blocks where there are enough."""
        quiet = [block for block in self.window if not block.loud]
        pool = quiet if len(quiet) >= self.policy.blocks else list(self.window)
        limit = sorted(block.median for block in pool)[self.policy.blocks - 1]
        return [block for block in pool if block.median <= limit][: self.policy.blocks]

    def _width_percent(self) -> float:
        low, high = median_interval([block.median for block in self._counted()])
        return 100 * (high / low - 1)

    def _preempted_percent(self) -> float:
        samples = np.concatenate([block.samples for block in self._counted()])
        return float(100 * (np.median(samples) / np.quantile(samples, 0.1) - 1))

    def _disturbed(self) -> bool:
        counted = self._counted()
        limit = min(block.median for block in counted) * (1 + self.policy.settle_percent / 100)
        dropped = sum(block.median > limit for block in self.window)
        loud = sum(block.loud for block in self.window)
        often = loud > LOUD_SHARE * len(self.window) or dropped > len(self.window) / 2
        return often or any(block.loud for block in counted)

    def summarise(self, circumstances: Circumstances, *, settled: bool) -> Measurement:
        """From the blocks, or where not all have ``settled`` from the fastest runs."""
        counted = self._counted()
        samples = 1e3 * np.concatenate([block.samples for block in counted])
        if np.ptp(samples) == 0:
            raise StageError("The clock of the device cannot be trusted: all durations are the same.", kind="clock")
        lowest = 1e3 * np.array(self.fastest.lowest)
        low, high = self._interval(counted) if settled else (lowest[0], lowest[-1])
        return Measurement(
            source="measured",
            n=len(samples),
            median_ms=float(np.median(samples if settled else lowest)),
            p90_ms=float(np.quantile(samples, 0.90)),
            p99_ms=float(np.quantile(samples, 0.99)),
            low_ms=low,
            high_ms=high,
            cv_percent=float(100 * samples.std() / samples.mean()),
            disturbed=not settled or self._disturbed() or sum(block.retaken for block in counted) > len(counted) / 2,
            samples_ms=tuple(samples[:: math.ceil(len(samples) / STORED_SAMPLES)].tolist()),
            **{**asdict(circumstances), "conditions": {**circumstances.conditions, **self._conditions(settled)}},
        )

    def _conditions(self, settled: bool) -> dict[str, str]:
        """Those of the session, and what figures are where they are not those of single inferences in quiet blocks."""
        found = dict(self.session.conditions())
        if self.session.statistic != "each":
            found["statistic"] = f"a sample is the {self.session.statistic} of {self.block_runs} runs"
        if not settled:
            found[UNSETTLED] = f"in {self.policy.max_seconds:g} s; median and interval are of the fastest runs"
        return found

    def _interval(self, counted: Sequence[Block]) -> tuple[float, float]:
        """Milliseconds. Where blocks were dropped, their choice narrows the usual interval, so it is widened."""
        everything, medians = ([1e3 * block.median for block in blocks] for blocks in (self.window, counted))
        low, high = median_interval(medians)
        if len(everything) == len(medians):
            return low, high
        return min(everything), max(high, statistics.median(everything))


def _total(samples: Sequence[float], n: int) -> float:
    """Seconds of all ``n`` runs, from those of each or from one figure over them."""
    return n * statistics.fmean(samples)


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
