"""Whether a device is still what it was when the run began; what was timed while it was not is timed again.

Before, during and after a measurement the device says how it is (`Device.conditions`), and the dense model, which is
timed beside every candidate, says how fast it is. A measurement is discarded where something held the device back at
any of these moments (``throttled``), where a counter of such events has grown, where a limit of a clock is lower than
at the start, where the governor is another one, or where the dense model is slower than at the start by more than
``drift_percent``. Then the device cools down for ``cool_down_s``, and the measurement is repeated, ``retries`` times.

A cause that outlasts them is waited for once in a run: the result is marked as disturbed and says why, as is every
later one that the cause meets; and a speed that outlasts them is what the device has from then on. So a machine that
has changed for good costs one wait and not one for every candidate, and since each is timed beside the dense model,
speed-ups stay fair. A dense model that was marked as disturbed itself, because other work was seen, proves no drift:
waiting cools no neighbour.

The first time that the dense model was marked as disturbed is told, with what its latency is known to: all that is
asked of such a device takes longer and is less sure, and whoever waits for it may be able to free it.

Another power mode is another device: it is no drift, and ends the run, which can be resumed when it is set back.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from autoprune.devices._base import Device
from autoprune.errors import DeviceError
from autoprune.hardware import TimingPolicy
from autoprune.records import Measurement

REFERENCE = "reference"
LOOK_SECONDS = 1.0  # between looks while it is timed
DRIFT = "drift"
LIMITS = ("clock_limit_mhz", "gpu_clock_limit_mhz")
State = Mapping[str, str]
Look = Callable[[], None]
Timed = dict[str, Measurement]


@dataclass
class Steadiness:
    """Watches one device for as long as it is open."""

    device: Device
    _began: State | None = None
    _dense_ms: float | None = None
    _lasting: set[str] = field(default_factory=set)  # causes that were waited for in vain
    _told_noise: bool = False

    def insist(
        self, measure: Callable[[State, Look], Timed], policy: TimingPolicy, tell: Callable[[str], None]
    ) -> Timed:
        """What ``measure`` gives when nothing holds the device back; marked where that cannot be had.

        ``tell`` hears of every wait, and once of noise.

        Raises:
            DeviceError: it is in another power mode.
        """
        for attempt in range(policy.retries + 1):
            seen, found = self._watched(measure)
            causes = self._causes(seen, found, policy)
            if not set(causes) - self._lasting:
                break
            if attempt < policy.retries:
                why = "; ".join(causes.values())
                tell(f"Timed again after {policy.cool_down_s:g} s: {why}.")
                time.sleep(policy.cool_down_s)
        else:
            self._lasting |= set(causes)
            tell(f"It stays so, and is not waited for again: {'; '.join(causes.values())}.")
        self._remember(found, drifted=DRIFT in causes)
        self._tell_noise(found, tell)
        return {name: _told(one, seen, causes, discarded=attempt) for name, one in found.items()}

    def _tell_noise(self, found: Timed, tell: Callable[[str], None]) -> None:
        dense = found.get(REFERENCE)
        if dense and dense.disturbed and not self._told_noise:
            self._told_noise = True
            tell(
                f"Something else slows '{self.device.profile.name}' down, on it or beside it: while it was timed, the "
                f"dense model took {dense.low_ms:.3g} to {dense.high_ms:.3g} ms. Until that ends, timing takes longer, "
                "intervals are wider, and some candidates may fail to settle. Close what else runs; where that is a "
                "neighbour on a shared machine, take another hour; or let the profile ask for less, with a higher "
                "timing.settle_percent."
            )

    def _watched(self, measure: Callable[[State, Look], Timed]) -> tuple[list[State], Timed]:
        """What was seen before, during and after; and what was timed."""
        seen: list[State] = [self.device.conditions()]
        last = time.monotonic()

        def look() -> None:
            nonlocal last
            if time.monotonic() - last > LOOK_SECONDS:
                seen.append(self.device.conditions())
                last = time.monotonic()

        found = measure(seen[0], look)
        seen.append(self.device.conditions())
        if self._began is None:
            self._began = seen[0]
        return seen, found

    def _causes(self, seen: list[State], found: Timed, policy: TimingPolicy) -> dict[str, str]:
        """A word for each cause, and the cause in words."""
        assert self._began is not None
        causes: dict[str, str] = {}
        for state in seen:
            self._check_mode(state)
            causes |= _held_back(state, self._began)
        before, after = (_number(state.get("throttle_events", "")) for state in (seen[0], seen[-1]))
        if before is not None and after is not None and after > before:
            causes["events"] = f"the device was throttled {after - before:g} times meanwhile"
        dense = found.get(REFERENCE)
        if dense and self._dense_ms and not dense.disturbed:
            drift = 100 * (dense.low_ms / self._dense_ms - 1)
            if drift > policy.drift_percent:
                causes[DRIFT] = f"the dense model is {drift:.0f} % slower than it was"
        return causes

    def _check_mode(self, state: State) -> None:
        assert self._began is not None
        was, now = self._began.get("power_mode", ""), state.get("power_mode", "")
        if was != now:
            raise DeviceError(
                f"Device '{self.device.profile.name}' is in power mode '{now}' now, and was in '{was}': latencies of "
                "two modes are not mixed. Set it back."
            )

    def _remember(self, found: Timed, *, drifted: bool) -> None:
        """How fast the dense model is: the fastest so far, or what it has settled at."""
        dense = found.get(REFERENCE)
        if dense and not dense.disturbed:
            fastest = dense.median_ms if drifted or self._dense_ms is None else min(dense.median_ms, self._dense_ms)
            self._dense_ms = fastest


def _held_back(state: State, began: State) -> dict[str, str]:
    causes = {}
    if flags := state.get("throttled"):
        causes["throttled"] = f"the device is held back ({flags})"
    if (governor := state.get("governor", "")) != (was := began.get("governor", "")):
        causes["governor"] = f"the governor is '{governor}', and was '{was}'"
    for name in LIMITS:
        pairs = zip(began.get(name, "").split(), state.get(name, "").split(), strict=False)
        if any((_number(now) or 0) < (_number(was) or 0) for was, now in pairs):
            causes[name] = f"the limit of a clock is {state[name]} MHz, and was {began[name]}"
    return causes


def _told(one: Measurement, seen: list[State], causes: Mapping[str, str], *, discarded: int) -> Measurement:
    """With what became of the conditions meanwhile, and what disturbed it."""
    after = {f"{key}_after": value for key, value in seen[-1].items() if value != seen[0].get(key)}
    more = {"discarded": str(discarded)} if discarded else {}
    if causes:
        more["disturbed_by"] = "; ".join(causes.values())
    conditions = {**one.conditions, **after, **more}
    return one.model_copy(update={"conditions": conditions, "disturbed": one.disturbed or bool(causes)})


def _number(text: str) -> float | None:
    try:
        return float(text)
    except ValueError:
        return None
