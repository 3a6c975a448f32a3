"""trtexec, against a stand-in that knows its documented command line and nothing else."""

import contextlib
import json
import os
import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from autoprune.devices import Arrays, Device, measure, open_device, smoke
from autoprune.devices.networks import convolutions
from autoprune.devices.remote import RemoteDevice
from autoprune.devices.runners import trtexec
from autoprune.devices.runners._onnx import ends
from autoprune.devices.runtimes.onnxruntime import OnnxRuntimeDevice
from autoprune.errors import StageError, TargetError
from autoprune.hardware import Capabilities, HardwareProfile, RuntimeOptions, TimingPolicy
from autoprune.records import Artifact
from autoprune.testing import DeviceContract
from tests.devices import sshd

STAND_IN = Path(__file__).parent / "stand_ins" / "trtexec.py"
POLICY = TimingPolicy(warmup_ms=2, blocks=6, block_ms=5, settle_percent=1000, max_seconds=120)


@pytest.fixture(params=["10.3.0", pytest.param("11.4.1", marks=pytest.mark.slow)])
def stand_in(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The path of the program."""
    monkeypatch.setenv("STAND_IN_TENSORRT", request.param)
    monkeypatch.setenv("STAND_IN_LOG", str(tmp_path / "log"))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    path = tmp_path / "bin" / "trtexec"
    path.parent.mkdir()
    path.write_text(f'#!/bin/sh\nexec {sys.executable} {STAND_IN} "$@"\n')
    path.chmod(0o755)
    return path


@pytest.fixture
def log(tmp_path: Path) -> Path:
    return tmp_path / "log"


def commands(log: Path) -> list[dict[str, str]]:
    lines = [json.loads(line) for line in log.read_text().splitlines()]
    return [dict(flag.partition("=")[::2] for flag in line) for line in lines if line != ["--help"]]


def gpu(path: Path | None, **options: object) -> HardwareProfile:
    return HardwareProfile(
        name="gpu",
        description="a stand-in",
        runtime="trtexec",
        options=RuntimeOptions.model_validate({"trtexec": path and str(path), **options}),
        timing=POLICY,
        capabilities=Capabilities(channel_multiple=8, precisions=("fp32", "fp16", "int8"), sparsity=("2:4",)),
    )


@pytest.fixture
def device(stand_in: Path) -> Device:
    return open_device(gpu(stand_in, cuda_graph=False, workspace_mb=64))


class TestTrtexecDevice(DeviceContract):
    def test_it_says_which_version_it_is(self, device: Device) -> None:
        assert device.runtime_version == os.environ["STAND_IN_TENSORRT"]
        assert device.lease_name == "gpu"

    def test_a_block_is_a_process(self, device: Device, artifact: Artifact, inputs: Arrays, log: Path) -> None:
        asked: list[int] = []
        with device.open(artifact, inputs) as session:
            session.run, run = lambda n: asked.append(n) or run(n), session.run  # type: ignore[method-assign, func-returns-value]
            measured = measure(session, POLICY, device.circumstances("fp32"))
        timed = [one for one in commands(log) if "--exportTimes" in one]
        assert [int(one["--iterations"]) for one in timed] == asked
        assert asked[0] == 1
        assert len(set(asked[2:])) == 1, "two to warm up"
        assert {
            "sparse_eligible": "2",
            "sparse_picked": "1",
            "cuda_graph": "false",
        }.items() <= measured.conditions.items()

    @pytest.mark.skipif(not sshd.available(), reason=sshd.MISSING)
    def test_a_block_is_a_process_on_another_device_too(
        self, stand_in: Path, artifact: Artifact, inputs: Arrays, log: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        version = os.environ["STAND_IN_TENSORRT"]  # ssh takes none of these along
        script = f'STAND_IN_LOG={log} STAND_IN_TENSORRT={version} exec {sys.executable} {STAND_IN} "$@"'
        stand_in.write_text(f"#!/bin/sh\n{script}\n")
        (folder := stand_in.parent / "sshd").mkdir()
        with sshd.running(folder) as path:
            monkeypatch.setenv("PATH", f"{path}{os.pathsep}{os.environ['PATH']}")
            profile = gpu(stand_in).model_copy(update={"connection": "ssh://device", "python": sys.executable})
            device = open_device(profile)
            assert isinstance(device, RemoteDevice)
            with device.open(artifact, inputs) as session:
                measure(session, POLICY, device.circumstances("fp32"))
            device.close()
        runs = [int(one["--iterations"]) for one in commands(log) if "--exportTimes" in one]
        assert runs[0] == 1
        assert len(set(runs[2:])) == 1, "two to warm up"

    @pytest.mark.parametrize("graph", [False, True])
    def test_every_default_is_set(
        self, stand_in: Path, artifact: Artifact, inputs: Arrays, log: Path, graph: bool
    ) -> None:
        with open_device(gpu(stand_in, cuda_graph=graph)).open(artifact, inputs) as session:
            session.run(1)
        built, timed = commands(log)
        assert {"--skipInference", "--noTF32", "--stronglyTyped"} <= set(built)
        assert (built["--sparsity"], built["--optShapes"]) == ("enable", "input:1x8x8x8")
        fixed = {"--duration": "0", "--avgRuns": "1", "--infStreams": "1", "--warmUp": "200", "--sleepTime": "0"}
        assert fixed.items() <= timed.items()
        assert {"--noDataTransfers", "--useSpinWait"} <= set(timed)
        old = os.environ["STAND_IN_TENSORRT"].startswith("10")
        assert {flag for flag in timed if "Graph" in flag} == (
            {"--useCudaGraph"} if graph else set() if old else {"--noCudaGraph"}
        )

    def test_an_engine_is_built_once(self, device: Device, artifact: Artifact, inputs: Arrays, log: Path) -> None:
        for _ in range(2):
            with device.open(artifact, inputs):
                pass
        assert [one["--memPoolSize"] for one in commands(log) if "--onnx" in one] == ["workspace:64M"]

    def test_it_predicts_part_by_part(self, stand_in: Path, artifact: Artifact) -> None:
        images = np.random.default_rng(1).normal(size=(3, 8, 8, 8)).astype(np.float32)
        device = open_device(gpu(stand_in, batch=2))
        here = OnnxRuntimeDevice(device.profile)
        with device.predictor(artifact) as predict, here.predictor(artifact) as wanted:
            np.testing.assert_allclose(predict([images])[0], wanted([images])[0], rtol=1e-4, atol=1e-5)

    def test_accuracy_is_scored_without_it(self, device: Device, artifact: Artifact, inputs: Arrays, log: Path) -> None:
        with device.scorer(artifact) as predict:
            predict([np.repeat(inputs[0], 50, axis=0)])
        assert not commands(log) if log.exists() else True

    def test_layers_have_the_names_of_the_model(self, device: Device, artifact: Artifact, inputs: Arrays) -> None:
        found = device.profile_operators(artifact, inputs)
        assert [(one.name, one.op_type, one.time_us) for one in found][:2] == [
            ("conv0", "Conv", 100.0),
            ("relu0", "Relu", 100.0),
        ]

    def test_what_it_complains_of_is_the_reason(self, device: Device, artifact: Artifact, inputs: Arrays) -> None:
        data = bytearray(artifact.path.read_bytes().replace(b"Relu", b"Rolu"))
        broken = artifact.model_copy(update={"path": artifact.path.with_name("rolu.onnx")})
        broken.path.write_bytes(data)
        with (
            pytest.raises(StageError, match=r"trtexec failed with status 1.*Rolu.*Failed to parse onnx file") as caught,
            device.open(broken, inputs),
        ):
            pass
        assert caught.value.kind == "runtime"

    def test_the_smoke_test_passes(self, device: Device) -> None:
        assert smoke(device)[1] < 1e-5


def test_a_command_line_that_is_refused_is_not_the_candidates_fault(stand_in: Path) -> None:
    with pytest.raises(
        trtexec.RunnerError, match=r"is not used as it wants to be.*Unknown option: --nonsense"
    ) as caught:
        trtexec.Tool(str(stand_in)).run("--onnx=x", "--nonsense")
    assert caught.value.kind == "device"


def test_no_trtexec_is_said_when_the_device_is_opened(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(TargetError, match="there is no trtexec /nowhere/trtexec"):
        open_device(gpu(Path("/nowhere/trtexec")))
    with pytest.raises(TargetError, match="on the PATH or at /usr/src/tensorrt/bin/trtexec"):
        open_device(gpu(None))


def test_another_program_is_not_taken_for_it(tmp_path: Path) -> None:
    path = tmp_path / "trtexec"
    path.write_text("#!/bin/sh\necho hello\n")
    path.chmod(0o755)
    with pytest.raises(TargetError, match="does not say its version"):
        open_device(gpu(path)).facts()


def test_what_hangs_is_stopped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "trtexec"
    path.write_text("#!/bin/sh\nexec sleep 60\n")
    path.chmod(0o755)
    monkeypatch.setattr(trtexec, "SECONDS", 0.2)
    with pytest.raises(trtexec.RunnerError, match=r"did not end within 0\.2 s") as caught:
        trtexec.Tool(str(path))
    assert caught.value.kind == "hang"


def test_numbers_that_are_none_are_read(tmp_path: Path) -> None:
    (tmp_path / "outputs.json").write_text('[ { "name" : "nan inf", "values" : [ 1.5, nan, -nan, inf, -inf ] } ]')
    [told] = trtexec.read_json(str(tmp_path / "outputs.json"))
    assert told["name"] == "nan inf"
    assert [str(value) for value in told["values"]] == ["1.5", "nan", "nan", "inf", "-inf"]


def test_the_ends_of_a_model_are_read_without_onnx(tmp_path: Path) -> None:
    path = tmp_path / "model.onnx"
    path.write_bytes(convolutions(300, kernel=1, layers=1, size=8).SerializeToString())
    inputs, outputs = ends(str(path))
    assert inputs == [("input", "float32", (-1, 300, 8, 8))]
    assert outputs == [("relu0", "float32", (-1, 300, 8, 8))]


@settings(deadline=None, max_examples=200)
@given(st.data())
def test_a_broken_model_is_refused_in_a_sentence(tmp_path_factory: pytest.TempPathFactory, data: st.DataObject) -> None:
    whole = bytearray(convolutions(4, kernel=1, layers=1, size=8).SerializeToString())
    for _ in range(data.draw(st.integers(1, 4))):
        whole[data.draw(st.integers(0, len(whole) - 1))] = data.draw(st.integers(0, 255))
    path = tmp_path_factory.getbasetemp() / "broken.onnx"
    path.write_bytes(bytes(whole[: data.draw(st.integers(0, len(whole)))]))
    with contextlib.suppress(ValueError):  # and nothing else
        ends(str(path))
