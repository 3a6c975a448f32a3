"""Several identical devices as one: whichever is free measures, and one that keeps failing is put aside."""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack
from typing import NoReturn

from autoprune.devices._base import Arrays, Device, OperatorTime, Predict, Session
from autoprune.devices.energy import Meter
from autoprune.devices.lease import OnWait, ignore
from autoprune.devices.steadiness import Steadiness
from autoprune.errors import DeviceError, StageError, TargetError
from autoprune.hardware import HardwareProfile
from autoprune.records import Artifact

MODE = "power_mode"  # of conditions; another one is another device
FAILURES = 3  # in a row, after which a device is put aside
LEASE_SECONDS, POLL_SECONDS = 3600.0, 0.5


class BusyError(Exception):
    """Somebody else holds this one; ask the next."""


class Member:
    """One device of a pool, and how steady it is; ``failures`` counts those since it last worked."""

    def __init__(self, device: Device, steadiness: Steadiness) -> None:
        self.device, self.steadiness = device, steadiness
        self.where = device.profile.connection
        self.failures = 0
        self.aside = False


class Pool(Device):
    """Identical devices: the same facts and power mode, or it is refused. What a lease encloses is done on one of them.

    Each thread has its own lease, so that as many measure at once as there are devices.

    A device that fails ``FAILURES`` times in a row is put aside for as long as this process lives, and ``notify`` is
    told; the last one stays, and fails as a device does that is alone.
    """

    def __init__(self, profile: HardwareProfile, devices: Sequence[Device], *, notify: OnWait = ignore) -> None:
        super().__init__(profile)
        first = devices[0]
        self.runtime, self.format, self.computes = first.runtime, first.format, first.computes
        self.tells_memory = first.tells_memory
        self._members = [Member(device, Steadiness(self)) for device in devices]
        self._notify = notify
        self._held = threading.local()
        self._counting = threading.Lock()  # failures
        self._facts: dict[str, str] = {}

    @property
    def at_once(self) -> int:
        return len(self._sound())

    @property
    def _leased(self) -> Member | None:
        """The one that this thread holds."""
        found: Member | None = getattr(self._held, "member", None)
        return found

    @property
    def runtime_version(self) -> str:
        return self.facts()["runtime_version"]

    def facts(self) -> dict[str, str]:
        """Those that all have. Raises TargetError where they differ, DeviceError where none can be reached."""
        if not self._facts:
            told: dict[str, dict[str, str]] = {}
            for member in self._sound():
                try:
                    mode = member.device.conditions().get(MODE, "")
                    told[member.where] = {**member.device.facts(), MODE: mode}
                except DeviceError as error:
                    self._failed(member, error, most=1)
                    if not member.aside:  # it is the last
                        raise
            self._facts = self._same(told)
            del self._facts[MODE]
        return dict(self._facts)

    def _same(self, told: dict[str, dict[str, str]]) -> dict[str, str]:
        (first, wanted), *others = told.items()
        for where, found in others:
            for key in sorted({*wanted, *found}):
                here, there = wanted.get(key, "unknown"), found.get(key, "unknown")
                if here != there:
                    raise TargetError(
                        f"The devices of target '{self.profile.name}' are not identical: {key} is {here} on {first}, "
                        f"and {there} on {where}. Their latencies cannot be mixed; name devices of one kind."
                    )
        return wanted

    def conditions(self) -> dict[str, str]:
        with self._on() as member:
            return {**member.device.conditions(), "connection": member.where}

    @property
    def _steadiness(self) -> Steadiness:
        """Each is compared with itself: boards of one kind differ by some per cent."""
        assert self._leased
        return self._leased.steadiness

    @contextlib.contextmanager
    def steady_clocks(self, tell: OnWait) -> Iterator[None]:
        """Of all of them."""
        self.facts()
        with ExitStack() as stack:
            for member in self._sound():
                stack.enter_context(member.device.steady_clocks(tell))
            yield

    def meter(self) -> AbstractContextManager[Meter]:
        return (self._leased or self._sound()[0]).device.meter()

    @contextlib.contextmanager
    def open(self, artifact: Artifact, inputs: Arrays) -> Iterator[Session]:
        with self._on() as member, member.device.open(artifact, inputs) as session:
            yield session

    @contextlib.contextmanager
    def predictor(self, artifact: Artifact) -> Iterator[Predict]:
        with self._on() as member, member.device.predictor(artifact) as predict:
            yield predict

    def scorer(self, artifact: Artifact) -> AbstractContextManager[Predict]:
        return self._sound()[0].device.scorer(artifact)

    def peak_memory_bytes(self, artifact: Artifact, inputs: Arrays) -> int | None:
        with self._on() as member:
            return member.device.peak_memory_bytes(artifact, inputs)

    def profile_operators(self, artifact: Artifact, inputs: Arrays) -> list[OperatorTime]:
        with self._on() as member:
            return member.device.profile_operators(artifact, inputs)

    @contextlib.contextmanager
    def lease(self, *, on_wait: OnWait = ignore) -> Iterator[None]:
        """Of whichever is free, those first that failed least. Raises as `Device.lease`."""
        if self._leased:  # a lease may be taken again
            yield
            return
        self.facts()
        with ExitStack() as stack:
            member = self._held.member = self._free(stack, on_wait)
            try:
                yield
            except DeviceError as error:
                self._failed(member, error)
                raise
            finally:
                self._held.member = None
            member.failures = 0

    def _free(self, stack: ExitStack, on_wait: OnWait) -> Member:
        told, until = False, time.monotonic() + LEASE_SECONDS
        while True:
            lost: DeviceError | None = None
            for member in self._sound():
                try:
                    stack.enter_context(member.device.lease(on_wait=_busy))
                    return member
                except DeviceError as error:
                    lost = error
                    self._failed(member, error)
                except BusyError:
                    continue
            if lost:
                raise lost
            if not told:
                on_wait(f"Waiting for a device of '{self.profile.name}': other processes measure on all of them.")
                told = True
            if time.monotonic() > until:
                message = f"The devices of '{self.profile.name}' were still in use after {LEASE_SECONDS:g} s."
                raise StageError(message, kind="busy")
            time.sleep(POLL_SECONDS)

    @contextlib.contextmanager
    def _on(self) -> Iterator[Member]:
        """The device that is leased, or the one that failed least."""
        member = self._leased or self._sound()[0]
        try:
            yield member
        except DeviceError as error:
            if member is not self._leased:  # otherwise the lease counts it
                self._failed(member, error)
            raise

    def _sound(self) -> list[Member]:
        return sorted((member for member in self._members if not member.aside), key=lambda member: member.failures)

    def _failed(self, member: Member, error: DeviceError, *, most: int = FAILURES) -> None:
        with self._counting:
            member.failures += 1
            left = len(self._sound()) - 1
            member.aside = member.failures >= most and left > 0
        if member.aside:
            self._notify(
                f"{member.where} is put aside, {left} {'goes' if left == 1 else 'go'} on without it: {error} "
                "Resuming the run takes it in again."
            )


def _busy(message: str) -> NoReturn:
    raise BusyError
