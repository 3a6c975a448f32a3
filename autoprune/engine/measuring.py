"""A run that was planned without its device, measured on it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from scipy.stats import kendalltau

from autoprune.compress.quantize import saturates
from autoprune.devices import Device, open_device
from autoprune.devices.runtimes.onnxruntime import OnnxRuntimeDevice
from autoprune.engine.api import Run
from autoprune.engine.config import RunInfo
from autoprune.engine.finalists import Finalist, Finals, OperatorRow
from autoprune.engine.observer import Observer, Silent
from autoprune.engine.prepare import load
from autoprune.engine.story import write_reports
from autoprune.errors import RunError, SearchError, StageError, TargetError
from autoprune.evaluate import as_arrays, timing_inputs
from autoprune.export import deviation, find_format, read_manifest
from autoprune.hardware import GIVEN, HardwareProfile, connected, load_profile
from autoprune.recipe import DENSE
from autoprune.records import Artifact, Measurement
from autoprune.study import RunDirectory

if TYPE_CHECKING:
    from autoprune.devices import Arrays
    from autoprune.task import Task


def measure(
    run: Path | str,
    *,
    target: str | None = None,
    connect: str | Sequence[str] | None = None,
    observer: Observer | None = None,
    task: Task | None = None,
) -> Run:
    """Measure the finalists of a finished run that was planned without its device; the run is reported anew.

    Args:
        target: another profile of the same device than the run's.
        connect: the way to the device, or the ways to several identical ones.
        task: only for a run that was started with a `Task` object.

    Raises:
        RunError: it is not such a run.
        TargetError: where the device is was not said.
        DeviceError: it cannot be reached.
        SearchError: the dense model does not run there, or the finalists do not settle.
    """
    observer = observer or Silent()
    directory = RunDirectory.open(Path(run))
    with directory.locked():
        info = RunInfo.load(directory)
        finals = _planned(directory)
        profile = _profile(info, target, connect)
        observer.stage("loading the task")
        task = task or load(info.config)
        observer.stage("opening the device")
        device = open_device(profile)
        _check_format(finals, info, device, observer)
        found = _measured(finals, device, directory, task, observer)
        directory.write(directory.finals, found.model_dump(mode="json"))
        directory.note("measured", device=device.fingerprint)
        document = write_reports(directory)
    observer.message(how_far_off(found))
    return Run(directory.root, document)


def _check_format(finals: Finals, info: RunInfo, device: Device, observer: Observer) -> None:
    """Raise TargetError where the device does not take the models; say where its INT8 needs another range."""
    name, kind = device.profile.name, find_format(device.format)
    if kind.suffix != Path(finals.dense.model).suffix:
        raise TargetError(
            f"Runtime '{device.profile.runtime}' does not take {finals.dense.model}, which is what the run has: search "
            "anew, with the device connected."
        )
    quantised = any(one.recipe.precision == "int8" for one in finals.finalists)
    facts = device.facts()
    if quantised and saturates(facts) and kind.suited(facts) is not kind.suited(info.facts):
        observer.message(
            f"'{name}' is an x86 CPU without VNNI, which was not known when the run was planned: sums of its 8-bit "
            "weights overflow there, and INT8 models may be less accurate than they were scored. Search anew with the "
            "device connected, or with its facts in the profile, and they have 7 bits."
        )


def _planned(directory: RunDirectory) -> Finals:
    if not directory.finals.is_file():
        raise RunError(f"{directory.root} is not finished: go on with 'autoprune resume {directory.root}'.")
    finals = Finals.load(directory)
    if finals.dense.estimated_ms is None and finals.dense.score.latency.source == "measured":
        raise RunError(f"{directory.root} was measured on its device all along: there are no estimates in it.")
    return finals


def _profile(info: RunInfo, target: str | None, connect: str | Sequence[str] | None) -> HardwareProfile:
    profile = connected(load_profile(target) if target else info.config.profile, connect)
    if profile.connection == GIVEN:
        raise TargetError(f"Say where '{profile.name}' is: --connect ssh://user@host.")
    return profile


def _measured(finals: Finals, device: Device, directory: RunDirectory, task: Task, observer: Observer) -> Finals:
    members = (finals.dense, *finals.finalists)
    artifacts = {one.recipe.id: _artifact(directory, one) for one in members}
    left_out = dict(finals.left_out)
    examples = as_arrays(task.example_inputs)
    for number, (recipe, artifact) in enumerate(list(artifacts.items()), 1):
        observer.stage(f"comparing model {number} of {len(members)} with this machine")
        try:
            _compare(device, artifact, examples)
        except StageError as error:
            left_out[recipe] = str(error)
            del artifacts[recipe]
    if DENSE.id not in artifacts:
        raise SearchError(f"The dense model does not run on '{device.profile.name}': {left_out[DENSE.id]}")
    observer.stage(f"timing {len(artifacts)} models against each other")
    inputs = timing_inputs(task, device.profile.options.batch)
    try:
        timed = device.latencies(artifacts, inputs, device.profile.timing.patient(), tell=observer.message)
        told = [_told(one, device, artifacts, timed, inputs) for one in members if one.recipe.id in artifacts]
    except StageError as error:
        raise SearchError(f"The models cannot be compared on '{device.profile.name}': {error}") from error
    return Finals(dense=told[0], finalists=tuple(told[1:]), left_out=left_out, measured_on=device.facts())


def _artifact(directory: RunDirectory, one: Finalist) -> Artifact:
    folder = directory.front / one.recipe.id
    entry = read_manifest(folder).files[one.model]
    return Artifact(
        path=folder / one.model, precision=one.recipe.precision, sha256=entry.sha256, size_bytes=entry.size_bytes
    )


def _compare(device: Device, artifact: Artifact, examples: Sequence[np.ndarray]) -> None:
    here = OnnxRuntimeDevice.here()
    with device.predictor(artifact) as there, here.predictor(artifact) as reference:
        deviation(there(examples), reference(examples), precision=artifact.precision)


def _told(
    one: Finalist,
    device: Device,
    artifacts: Mapping[str, Artifact],
    timed: Mapping[str, Measurement],
    inputs: Arrays,
) -> Finalist:
    artifact = artifacts[one.recipe.id]
    operators = device.profile_operators(artifact, inputs)
    score = one.score.model_copy(
        update={
            "latency": timed[one.recipe.id],
            "reference_ms": timed[DENSE.id].median_ms,
            "peak_memory_bytes": device.peak_memory_bytes(artifact, inputs),
        }
    )
    return one.model_copy(
        update={
            "score": score,
            "operators": tuple(OperatorRow(name=o.name, op_type=o.op_type, time_us=o.time_us) for o in operators),
            "estimated_ms": one.estimated_ms or one.score.latency.median_ms,
        }
    )


def how_far_off(finals: Finals) -> str:
    """The estimates against the measurements, in a sentence."""
    members = (finals.dense, *finals.finalists)
    measured = np.array([one.score.latency.median_ms for one in members])
    estimated = np.array([one.estimated_ms for one in members], float)
    ratio = measured / estimated
    said = f"The models take {ratio.min():.2f} to {ratio.max():.2f} times as long as estimated"
    if len(members) > 2:
        off = 100 * np.median(np.abs(ratio[1:] / ratio[0] - 1))
        tau = kendalltau(estimated, measured).statistic
        said += f"; the speed-ups were estimated {off:.0f} % off (median), their order with a Kendall tau of {tau:.2f}"
    return f"{said}."
