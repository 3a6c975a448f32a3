"""A device that is not at hand: its latencies are estimated, until it is connected."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import AbstractContextManager
from typing import NoReturn

from autoprune.devices._base import Arrays, Device, OperatorTime, Predict, Session
from autoprune.devices.estimate import Estimator, describes
from autoprune.devices.lease import OnWait, ignore
from autoprune.devices.runtimes.onnxruntime import OnnxRuntimeDevice
from autoprune.errors import DeviceError, TargetError
from autoprune.hardware import HardwareProfile, TimingPolicy
from autoprune.records import Artifact, Measurement

UNKNOWN = "unknown"


class PlannedDevice(Device):
    """Estimates of `Estimator`; parity and accuracy are those of the artifact under ONNX Runtime on this machine.

    Nothing can be timed on it: ``open`` raises `DeviceError`.

    Raises:
        TargetError: the profile does not say what the device is made of, or leaves its capabilities to a probe; its
            runtime takes no ONNX files.
    """

    lease_name = "plan"
    tells_memory = False
    estimates = True

    def __init__(self, profile: HardwareProfile, *, format: str = Device.format) -> None:
        super().__init__(profile)
        self.runtime, self.format = profile.runtime, format
        if not format.startswith(Device.format):
            raise TargetError(
                f"Target '{profile.name}' is somewhere else, and only ONNX files are estimated: say where it is, with "
                "--connect ssh://user@host."
            )
        if not describes(profile.hardware):
            raise TargetError(
                f"Target '{profile.name}' is somewhere else: say where, with --connect ssh://user@host. To plan for it "
                "without, the profile needs hardware.peak_gflops and hardware.bandwidth_gb_per_s."
            )
        if "probe" in (profile.capabilities.channel_multiple, profile.capabilities.precisions):
            raise TargetError(
                f"Target '{profile.name}' is somewhere else, so its capabilities cannot be probed: say where it is, "
                "with --connect ssh://user@host, or declare them in its profile."
            )
        self._estimator = Estimator(profile)

    @property
    def runtime_version(self) -> str:
        return UNKNOWN

    def facts(self) -> dict[str, str]:
        """Latencies of one run all come from the same knowledge, so what the estimates rest on is among them."""
        assert self.profile.hardware is not None
        known = f" and {len(self._estimator)} measurements" if len(self._estimator) else ""
        return {
            "runtime": self.runtime,
            "planned_for": self.profile.name,
            "processor": self.profile.hardware.processor,
            "estimated_from": f"data sheet{known}",
        }

    def conditions(self) -> dict[str, str]:
        return {}

    def latencies(
        self, artifacts: Mapping[str, Artifact], inputs: Arrays, policy: TimingPolicy, *, tell: OnWait = ignore
    ) -> dict[str, Measurement]:
        return {name: self._estimated(artifact) for name, artifact in artifacts.items()}

    def _estimated(self, artifact: Artifact) -> Measurement:
        found = self._estimator.estimate(artifact.path)
        return Measurement(
            source="estimated",
            runtime=self.runtime,
            runtime_version=UNKNOWN,
            device=self.fingerprint,
            precision=artifact.precision,
            batch=self.profile.options.batch,
            threads=self.profile.options.threads,
            n=0,
            median_ms=found.latency_ms,
            low_ms=found.latency_ms,
            high_ms=found.latency_ms,
            error_factor=found.error_factor,
        )

    def open(self, artifact: Artifact, inputs: Arrays) -> AbstractContextManager[Session]:
        self._absent()

    def predictor(self, artifact: Artifact) -> AbstractContextManager[Predict]:
        return OnnxRuntimeDevice.here().predictor(artifact)

    def peak_memory_bytes(self, artifact: Artifact, inputs: Arrays) -> None:
        """Not known before the device is at hand."""

    def profile_operators(self, artifact: Artifact, inputs: Arrays) -> list[OperatorTime]:
        return []

    def _absent(self) -> NoReturn:
        raise DeviceError(
            f"Target '{self.profile.name}' is only planned for, so nothing can be measured on it: say where it is, "
            "with --connect ssh://user@host."
        )
