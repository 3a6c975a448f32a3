"""A latency from a data sheet: the roofline of Williams, Waterman and Patterson (CACM 2009), and what was learnt since.

Every operator takes as long as its arithmetic at the peak rate or its memory traffic at the full bandwidth, whichever
is longer; activations, additions and normalisations are taken to be fused into what comes before them, reshaping and
quantising to cost nothing. Each precision reaches some share of its roofline, and each operator takes some time to
start: guesses until something was measured on such a device, and fitted from then on.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import math
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, get_args

import numpy as np
import platformdirs
from pydantic import NonNegativeFloat, NonNegativeInt, PositiveFloat, ValidationError

from autoprune.devices._operations import Operation, operations
from autoprune.documents import Strict
from autoprune.files import write_whole
from autoprune.hardware import Hardware, HardwareProfile, Precision
from autoprune.records import Artifact, Measurement

if TYPE_CHECKING:
    from numpy.typing import NDArray

BYTES: Mapping[Precision, int] = {"fp32": 4, "fp16": 2, "int8": 1}
SCALE, START_S = 2.0, 5e-6  # guesses: half of the roofline is reached; an operator takes this long to start
TRUST = 1e-3  # in the guesses, where a measurement has 1: they count where measurements leave a choice
GUESS_FACTOR, GUESS_WEIGHT = 3.0, 1.0  # how far off a guess may be, and how many measurements that belief weighs
NORMAL_95 = 1.96
MOST = 500  # measurements that are remembered


class Experience(Strict):
    """One measurement of a model whose work is known.

    Attributes:
        sha256: of the artifact.
        roofline_s: seconds by precision if the device wasted nothing.
        operators: how many are started.
    """

    sha256: str
    roofline_s: dict[Precision, NonNegativeFloat]
    operators: NonNegativeInt
    latency_ms: PositiveFloat


class Experiences(Strict):
    """The file of what was measured on devices of one kind."""

    measured: tuple[Experience, ...] = ()


@dataclass(frozen=True)
class Estimate:
    """Milliseconds, and the factor by which they may be off either way (95 %)."""

    latency_ms: float
    error_factor: float


class Estimator:
    """Estimates for devices with that hardware and runtime, which `learn` improves.

    Args:
        profile: its ``hardware`` says peak rates and bandwidth.
    """

    def __init__(self, profile: HardwareProfile) -> None:
        assert profile.hardware is not None
        self._profile, self._hardware = profile, profile.hardware
        kind = json.dumps([profile.runtime, profile.options.threads, self._hardware.model_dump(mode="json")])
        name = hashlib.sha256(kind.encode()).hexdigest()[:16]
        self._path = platformdirs.user_cache_path("autoprune") / "estimates" / f"{name}.json"
        self._known = {one.sha256: one for one in self._read()}

    def __len__(self) -> int:
        """How many measurements the estimates rest on."""
        return len(self._known)

    def estimate(self, model: Path) -> Estimate:
        """For the ONNX file ``model``."""
        known = list(self._known.values())
        work = self._work(model, "")
        milliseconds = 1e3 * float(_row(work) @ _fit(known))
        return Estimate(milliseconds, _error_factor(known))

    def learn(self, artifact: Artifact, latency_ms: float) -> None:
        """Remember what was measured, for this and later processes; a cache that cannot be written costs only that."""
        found = self._work(artifact.path, artifact.sha256).model_copy(update={"latency_ms": latency_ms})
        self._known = {**{one.sha256: one for one in self._read()}, **self._known, artifact.sha256: found}
        recent = tuple(self._known.values())[-MOST:]
        with contextlib.suppress(OSError):
            write_whole(self._path, Experiences(measured=recent).model_dump_json(indent=1).encode())

    def _read(self) -> Sequence[Experience]:
        with contextlib.suppress(OSError, ValidationError, UnicodeDecodeError):
            return Experiences.model_validate_json(self._path.read_text(encoding="utf-8")).measured
        return ()

    def _work(self, model: Path, sha256: str) -> Experience:
        options, capabilities = self._profile.options, self._profile.capabilities
        multiple = capabilities.channel_multiple if isinstance(capabilities.channel_multiple, int) else 1
        seconds: dict[Precision, float] = defaultdict(float)
        found = operations(model, batch=options.batch, multiple=multiple)
        for one in found:
            seconds[one.precision] += roofline_s(one, self._hardware, threads=options.threads)
        return Experience(sha256=sha256, roofline_s=dict(seconds), operators=len(found), latency_ms=1.0)


def describes(hardware: Hardware | None) -> bool:
    """Whether an estimate can be made of it."""
    return hardware is not None and bool(hardware.peak_gflops) and hardware.bandwidth_gb_per_s is not None


def remember(profile: HardwareProfile, artifacts: Mapping[str, Artifact], measured: Mapping[str, Measurement]) -> None:
    """Let measurements improve later estimates for such devices; of ONNX files, whose work is known."""
    if describes(profile.hardware):
        estimator = Estimator(profile)
        for name, artifact in artifacts.items():
            if artifact.path.suffix == ".onnx":
                estimator.learn(artifact, measured[name].median_ms)


def roofline_s(operation: Operation, hardware: Hardware, *, threads: int) -> float:
    """Seconds that ``operation`` takes at least; a precision that the data sheet lacks runs as the next wider one."""
    share = min(threads / hardware.cores, 1.0) if hardware.cores else 1.0
    wider = [p for p in hardware.peak_gflops if BYTES[p] >= BYTES[operation.precision]]
    by = min(wider, key=BYTES.__getitem__) if wider else min(hardware.peak_gflops, key=BYTES.__getitem__)
    computing = 2 * operation.macs / (1e9 * hardware.peak_gflops[by] * share)
    assert hardware.bandwidth_gb_per_s is not None
    return max(computing, operation.elements * BYTES[operation.precision] / (1e9 * hardware.bandwidth_gb_per_s))


def _row(one: Experience) -> NDArray[np.float64]:
    return np.array([*(one.roofline_s.get(precision, 0.0) for precision in get_args(Precision)), one.operators])


def _fit(known: Sequence[Experience]) -> NDArray[np.float64]:
    """What each precision's roofline is multiplied with, and the seconds that an operator takes to start.

    Least squares of the relative errors, none negative, drawn to the guesses.
    """
    from scipy.optimize import nnls

    guess = np.array([*[SCALE] * len(get_args(Precision)), START_S])
    rows = [_row(one) * guess / (one.latency_ms / 1e3) for one in known]
    pull = math.sqrt(TRUST) * np.eye(len(guess))
    factors, _ = nnls(np.vstack([*rows, pull]), np.concatenate([np.ones(len(rows)), pull.sum(axis=1)]))
    return np.asarray(factors * guess)


def _error_factor(known: Sequence[Experience]) -> float:
    """From how far off each measurement was for the others, and the belief that a guess may be off by 3."""
    misses = [
        math.log(1e3 * float(_row(one) @ _fit([*known[:n], *known[n + 1 :]])) / one.latency_ms)
        for n, one in enumerate(known)
    ]
    guess = math.log(GUESS_FACTOR) / NORMAL_95
    spread = math.sqrt((GUESS_WEIGHT * guess**2 + sum(miss**2 for miss in misses)) / (GUESS_WEIGHT + len(misses)))
    return math.exp(NORMAL_95 * spread)
