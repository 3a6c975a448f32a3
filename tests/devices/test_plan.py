"""Estimates from a data sheet: what they count, what they are worth, what they learn."""

import hashlib
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from onnx import TensorProto, helper, numpy_helper

from autoprune.devices import Arrays, open_device
from autoprune.devices._operations import Operation, operations
from autoprune.devices.estimate import GUESS_FACTOR, Estimator, roofline_s
from autoprune.devices.networks import convolutions
from autoprune.devices.plan import PlannedDevice
from autoprune.errors import DeviceError, TargetError
from autoprune.hardware import Capabilities, Hardware, HardwareProfile, Precision, load_profile
from autoprune.records import Artifact

SHEET = Hardware(processor="abacus", peak_gflops={"fp32": 100.0, "int8": 400.0}, bandwidth_gb_per_s=10.0)


@pytest.fixture(autouse=True)
def _cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


@pytest.fixture
def planned() -> HardwareProfile:
    return HardwareProfile(
        name="board",
        description="somewhere else",
        runtime="tensorrt",
        connection="given",
        capabilities=Capabilities(channel_multiple=1),
        hardware=SHEET,
    )


def chain(folder: Path, width: int) -> Artifact:
    path = folder / f"{width}.onnx"
    content = convolutions(width, kernel=3, layers=2, size=8).SerializeToString()
    path.write_bytes(content)
    return Artifact(path=path, precision="fp32", sha256=hashlib.sha256(content).hexdigest(), size_bytes=len(content))


def test_convolutions_are_counted_as_they_are_computed(tmp_path: Path) -> None:
    found = operations(chain(tmp_path, 12).path, batch=2)
    assert [(one.name, one.op_type, one.precision) for one in found] == [
        ("conv0", "Conv", "fp32"),
        ("conv1", "Conv", "fp32"),
    ]
    pixels = 2 * 8 * 8
    assert found[0].macs == pixels * 12 * 12 * 9
    assert found[0].elements == 2 * pixels * 12 + 12 * 12 * 9


@given(st.integers(1, 40), st.sampled_from([1, 4, 8, 16]))
@settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_channels_are_filled_up(tmp_path: Path, width: int, multiple: int) -> None:
    filled = -(-width // multiple) * multiple
    found = operations(chain(tmp_path, width).path, batch=1, multiple=multiple)
    assert found[0].macs == pytest.approx(64 * filled * filled * 9)


def test_a_quantised_model_counts_as_int8_and_its_reshaping_as_nothing(tmp_path: Path) -> None:
    weight = numpy_helper.from_array(np.ones((10, 64), np.int8), "weight")
    scale = numpy_helper.from_array(np.float32(0.1), "scale")
    zero = numpy_helper.from_array(np.int8(0), "zero")
    nodes = [
        helper.make_node("Flatten", ["input"], ["flat"]),
        helper.make_node("QuantizeLinear", ["flat", "scale", "zero"], ["quantised"]),
        helper.make_node("DequantizeLinear", ["quantised", "scale", "zero"], ["a"]),
        helper.make_node("DequantizeLinear", ["weight", "scale", "zero"], ["w"]),
        helper.make_node("Gemm", ["a", "w"], ["made"], name="head", transB=1),
        helper.make_node("Add", ["made", "made"], ["sum"]),
        helper.make_node("Relu", ["sum"], ["output"]),
    ]
    ends = [
        helper.make_tensor_value_info("input", TensorProto.FLOAT, ["n", 4, 4, 4]),
        helper.make_tensor_value_info("output", TensorProto.FLOAT, ["n", 10]),
    ]
    graph = helper.make_graph(nodes, "head", ends[:1], ends[1:], [weight, scale, zero])
    path = tmp_path / "head.onnx"
    path.write_bytes(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)]).SerializeToString())
    [found] = operations(path, batch=3)
    assert (found.name, found.precision, found.macs) == ("head", "int8", 3 * 10 * 64)
    assert found.elements == 3 * 64 + 640 + 3 * 10 + 3 * 10  # input, weights, output, and what the addition reads


@pytest.mark.parametrize(
    ("precision", "macs", "elements", "seconds"),
    [
        ("fp32", 5e9, 0, 0.1),
        ("int8", 5e9, 0, 0.025),
        ("fp32", 0, 1e9, 0.4),
        ("int8", 0, 1e9, 0.1),
        ("fp16", 5e9, 0, 0.1),
    ],
)
def test_the_roofline(precision: Precision, macs: float, elements: float, seconds: float) -> None:
    """FP16 is not on the data sheet, so it runs as FP32 does."""
    assert roofline_s(Operation("", "", precision, macs, elements), SHEET, threads=1) == pytest.approx(seconds)
    quarter = SHEET.model_copy(update={"cores": 4})
    one_core = roofline_s(Operation("", "", precision, macs, elements), quarter, threads=1)
    assert one_core == pytest.approx(4 * seconds if macs else seconds)


def test_estimates_grow_with_the_work_and_say_that_they_are_guesses(planned: HardwareProfile, tmp_path: Path) -> None:
    found = [Estimator(planned).estimate(chain(tmp_path, width).path) for width in (8, 16, 32, 64)]
    assert [one.latency_ms for one in found] == sorted(one.latency_ms for one in found)
    assert all(one.error_factor == pytest.approx(GUESS_FACTOR) for one in found)


@pytest.mark.parametrize(("scale", "start_us"), [(1.2, 0.0), (5.0, 40.0), (20.0, 2.0)])
def test_measurements_teach(planned: HardwareProfile, tmp_path: Path, scale: float, start_us: float) -> None:
    """A device that needs that multiple of its roofline and that long for each operator, with 2 % of noise."""
    noise = np.random.default_rng(0)

    def truth_ms(artifact: Artifact) -> float:
        work = sum(roofline_s(one, SHEET, threads=1) for one in operations(artifact.path, batch=1))
        return 1e3 * (scale * work + 2e-6 * start_us)

    estimator = Estimator(planned)
    for width in range(8, 72, 4):
        estimator.learn(one := chain(tmp_path, width), truth_ms(one) * (1 + 0.02 * noise.normal()))
    later = Estimator(planned)
    assert len(later) == 16
    for width in (10, 33, 66):
        found = later.estimate((one := chain(tmp_path, width)).path)
        assert found.latency_ms == pytest.approx(truth_ms(one), rel=0.1)
        assert found.error_factor < 2
        assert 1 / found.error_factor < found.latency_ms / truth_ms(one) < found.error_factor
    other = planned.model_copy(update={"hardware": SHEET.model_copy(update={"processor": "another"})})
    assert len(Estimator(other)) == 0


def test_a_planned_device_estimates_and_measures_nothing(
    planned: HardwareProfile, artifact: Artifact, inputs: Arrays
) -> None:
    device = open_device(planned)
    assert isinstance(device, PlannedDevice)
    [found] = device.latencies({"one": artifact}, inputs, planned.timing).values()
    assert (found.source, found.n, found.p99_ms) == ("estimated", 0, None)
    assert found.device == device.fingerprint
    with pytest.raises(DeviceError, match=r"'board' is only planned for.*--connect"):
        device.open(artifact, inputs)
    assert device.peak_memory_bytes(artifact, inputs) is None
    with device.predictor(artifact) as predict:
        assert predict(inputs)[0].shape == (1, 8, 8, 8)


def test_what_a_measurement_taught_makes_it_another_device(planned: HardwareProfile, artifact: Artifact) -> None:
    before = open_device(planned)
    Estimator(planned).learn(artifact, 1.0)
    assert open_device(planned).fingerprint != before.fingerprint
    assert open_device(planned).facts()["estimated_from"] == "data sheet and 1 measurements"


def test_measuring_teaches_where_the_profile_has_a_data_sheet(
    profile: HardwareProfile, artifact: Artifact, inputs: Arrays
) -> None:
    known = profile.model_copy(update={"hardware": SHEET})
    open_device(known).latencies({"one": artifact}, inputs, known.timing)
    assert len(Estimator(known)) == 1


def test_a_corrupted_memory_is_forgotten(planned: HardwareProfile, artifact: Artifact) -> None:
    estimator = Estimator(planned)
    estimator.learn(artifact, 1.0)
    estimator._path.write_text('{"measured": 3}')
    assert len(Estimator(planned)) == 0


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"hardware": None}, r"hardware\.peak_gflops"),
        ({"hardware": Hardware(processor="x", peak_gflops={"fp32": 1.0})}, r"hardware\.bandwidth_gb_per_s"),
        ({"capabilities": Capabilities()}, r"capabilities cannot be probed.*declare them"),
        ({"capabilities": Capabilities(channel_multiple=8, precisions="probe")}, r"capabilities cannot be probed"),
    ],
)
def test_what_a_plan_needs_is_said(planned: HardwareProfile, changes: dict[str, object], said: str) -> None:
    with pytest.raises(TargetError, match=rf"'board' is somewhere else.*--connect.*{said}|{said}"):
        open_device(planned.model_copy(update=changes))


@pytest.mark.parametrize("name", ["jetson", "jetson-orin-nano", "jetson-agx-orin", "jetson-thor"])
def test_every_jetson_can_be_planned_for(name: str, artifact: Artifact, inputs: Arrays) -> None:
    device = open_device(load_profile(name))
    assert device.estimates
    assert device.profile.hardware is not None
    assert device.profile.hardware.cores is None, "threads of the CPU do not share a GPU"
    assert device.latencies({"one": artifact}, inputs, device.profile.timing)["one"].median_ms > 0
