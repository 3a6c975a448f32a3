"""What every device keeps to."""

import math
import time
from pathlib import Path

import numpy as np
import pytest

from autoprune.devices import Arrays, Device, measure
from autoprune.errors import StageError
from autoprune.hardware import TimingPolicy
from autoprune.records import Artifact

POLICY = TimingPolicy(warmup_ms=5, block_ms=5, settle_percent=1000)


class DeviceContract:
    """Subclass it and supply the fixtures ``device``, ``artifact``, ``inputs`` (one array per input, batch first).

    Set ``has_profiler`` to False where the runtime cannot say what an operator costs, ``tells_memory`` where it cannot
    say how much memory a model takes.
    """

    has_profiler = tells_memory = True

    def test_fingerprint_is_stable(self, device: Device) -> None:
        again = type(device)(device.profile)
        assert device.facts() == again.facts()
        assert device.fingerprint == again.fingerprint

    def test_run_gives_one_duration_for_each_run(self, device: Device, artifact: Artifact, inputs: Arrays) -> None:
        with device.open(artifact, inputs) as session:
            assert session.run(0) == []
            began = time.monotonic()
            samples = session.run(5)
            elapsed = time.monotonic() - began
        assert len(samples) == (5 if session.statistic == "each" else 1)
        assert all(math.isfinite(sample) and sample > 0 for sample in samples)
        assert sum(samples) <= elapsed, "durations are in seconds, and of the inference alone"

    def test_foreign_time_never_runs_backwards(self, device: Device, artifact: Artifact, inputs: Arrays) -> None:
        with device.open(artifact, inputs) as session:
            before, _, after = session.foreign_seconds(), session.run(5), session.foreign_seconds()
        assert (before is None) == (after is None)
        if before is not None and after is not None:
            assert after - before > -0.1, "CPU time is counted in ticks, so a little is allowed"

    def test_block_is_what_run_and_foreign_time_give(self, device: Device, artifact: Artifact, inputs: Arrays) -> None:
        with device.open(artifact, inputs) as session:
            samples, foreign = session.block(2, 5)
            known = session.foreign_seconds() is not None
        assert len(samples) == (5 if session.statistic == "each" else 1)
        assert all(math.isfinite(sample) and sample > 0 for sample in samples)
        assert known == (foreign is not None)
        assert foreign is None or -0.1 < foreign < 60, "the seconds of this block, not all so far"

    def test_measurement_names_its_circumstances(self, device: Device, artifact: Artifact, inputs: Arrays) -> None:
        with device.open(artifact, inputs) as session:
            measurement = measure(session, POLICY, device.circumstances(artifact.precision))
        assert measurement.source == "measured"
        assert measurement.runtime == device.runtime
        assert measurement.runtime_version == device.runtime_version
        assert measurement.device == device.fingerprint
        assert measurement.batch == device.profile.options.batch

    def test_prediction_is_reproducible(self, device: Device, artifact: Artifact, inputs: Arrays) -> None:
        with device.predictor(artifact) as predict:
            first, second = predict(inputs), predict(inputs)
        assert first
        for one, other in zip(first, second, strict=True):
            np.testing.assert_array_equal(one, other)

    def test_broken_artifact_is_a_stage_error(
        self, device: Device, artifact: Artifact, inputs: Arrays, tmp_path: Path
    ) -> None:
        broken = artifact.model_copy(update={"path": tmp_path / "broken.onnx"})
        broken.path.write_bytes(b"no model")
        with pytest.raises(StageError), device.open(broken, inputs):
            pass
        with pytest.raises(StageError), device.predictor(broken) as predict:
            predict(inputs)
        if self.tells_memory:
            with pytest.raises(StageError):
                device.peak_memory_bytes(broken, inputs)

    def test_wrong_input_is_a_stage_error(self, device: Device, artifact: Artifact, inputs: Arrays) -> None:
        wrong = [np.zeros((1,), array.dtype) for array in inputs]
        with pytest.raises(StageError), device.open(artifact, wrong) as session:
            session.run(1)

    def test_peak_memory_is_positive(self, device: Device, artifact: Artifact, inputs: Arrays) -> None:
        found = device.peak_memory_bytes(artifact, inputs)
        assert found > 0 if found is not None else not self.tells_memory

    def test_every_operator_has_a_time(self, device: Device, artifact: Artifact, inputs: Arrays) -> None:
        operators = device.profile_operators(artifact, inputs)
        assert bool(operators) == self.has_profiler
        assert all(operator.name and operator.op_type and operator.time_us >= 0 for operator in operators)

    def test_channel_multiple_is_positive(self, device: Device) -> None:
        assert device.channel_multiple() >= 1
