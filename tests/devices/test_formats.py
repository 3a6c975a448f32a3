"""The formats that runtimes take: the same model in each of them, in each precision, and what its bundle says."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from autoprune.devices import Device, open_device
from autoprune.errors import StageError
from autoprune.export import find_format, format_of, write_bundle
from autoprune.graph.model import PrunableGraph
from autoprune.hardware import HardwareProfile, Precision, RuntimeOptions
from autoprune.recipe import Recipe
from autoprune.records import Artifact
from tests.models import cifar_resnet

MODULES = {"onnxruntime": "onnxruntime", "executorch": "executorch", "litert": "litert_torch"}
MOBILE = [name for name in MODULES if name != "onnxruntime"]


def device_of(runtime: str, *, batch: int = 1) -> Device:
    pytest.importorskip(MODULES[runtime], reason=f"{runtime} is not installed")
    options = RuntimeOptions(batch=batch)
    return open_device(HardwareProfile(name="here", description="this machine", runtime=runtime, options=options))


def written(
    module: nn.Module, inputs: tuple[Tensor, ...], path: Path, *, device: Device, precision: Precision = "fp32"
) -> Artifact:
    form = find_format(device.format).suited(device.facts())
    calibration = [tuple(value.numpy() for value in inputs)]
    sample = tuple(value[: device.profile.options.batch] for value in inputs)
    return form.write(module, sample, path.with_suffix(form.suffix), precision=precision, calibration=calibration)


def predicted(artifact: Artifact, inputs: tuple[Tensor, ...], device: Device) -> list[np.ndarray]:
    with device.predictor(artifact) as predict:
        return predict([value.numpy() for value in inputs])


def off(found: np.ndarray, wanted: Tensor) -> float:
    """The largest difference, as a share of the range."""
    return float(np.abs(found - wanted.numpy()).max()) / float(wanted.max() - wanted.min())


@pytest.fixture(scope="module")
def images() -> tuple[Tensor, ...]:
    return (torch.randn(19, 3, 16, 16, generator=torch.Generator().manual_seed(0)),)


def pruned(depth: int, images: tuple[Tensor, ...]) -> nn.Module:
    """A ResNet whose BatchNorms have seen images, cut to two thirds."""
    torch.manual_seed(0)
    model = cifar_resnet(depth).train()
    with torch.no_grad():
        model(*images)
    graph = PrunableGraph.capture(model.eval(), (images[0][:2],))
    return graph.cut({group.id: range(group.size * 2 // 3) for group in graph.groups}).eval()


@pytest.fixture(scope="module")
def small(images: tuple[Tensor, ...]) -> nn.Module:
    return pruned(8, images)


@pytest.mark.slow
@torch.no_grad()
def test_pruned_resnet20_computes_the_same_everywhere(images: tuple[Tensor, ...], tmp_path: Path) -> None:
    module = pruned(20, images)
    wanted = module(*images)
    for runtime in MODULES:
        device = device_of(runtime)
        artifact = written(module, images, tmp_path / "model", device=device)
        assert off(predicted(artifact, images, device)[0], wanted) < 1e-3, runtime


@pytest.mark.parametrize("runtime", MOBILE)
@torch.no_grad()
def test_int8_is_smaller_and_near(runtime: str, small: nn.Module, images: tuple[Tensor, ...], tmp_path: Path) -> None:
    device = device_of(runtime)
    whole = written(small, images, tmp_path / "fp32", device=device)
    eight = written(small, images, tmp_path / "int8", device=device, precision="int8")
    assert eight.precision == "int8"
    assert eight.size_bytes < 0.6 * whole.size_bytes
    [found] = predicted(eight, images, device)
    assert found.dtype == np.float32
    assert 0 < off(found, small(*images)) < 0.1


@pytest.mark.parametrize("runtime", MOBILE)
@torch.no_grad()
def test_batch_is_fixed_and_any_number_is_scored(
    runtime: str, small: nn.Module, images: tuple[Tensor, ...], tmp_path: Path
) -> None:
    """19 samples in batches of 4; what fills the last batch is not among the outputs."""
    device = device_of(runtime, batch=4)
    artifact = written(small, images, tmp_path / "model", device=device)
    [found] = predicted(artifact, images, device)
    assert found.shape == (19, 10)
    assert off(found, small(*images)) < 1e-3
    with device.open(artifact, [images[0][:4].numpy()]) as session:
        assert len(session.run(2)) == 2
    with pytest.raises(StageError), device.open(artifact, [images[0][:1].numpy()]) as session:
        session.run(1)


class Two(nn.Module):
    """Two inputs and two outputs, all of different sizes, none in the order of use."""

    def __init__(self) -> None:
        super().__init__()
        self.narrow, self.wide = nn.Linear(3, 6), nn.Linear(5, 8)

    def forward(self, b: Tensor, a: Tensor) -> tuple[Tensor, Tensor]:
        return self.wide(a).relu(), self.narrow(b)


@pytest.mark.parametrize("precision", ["fp32", "int8"])
@pytest.mark.parametrize("runtime", MOBILE)
@torch.no_grad()
def test_inputs_and_outputs_keep_their_order(runtime: str, precision: Precision, tmp_path: Path) -> None:
    torch.manual_seed(0)
    module, inputs, device = Two().eval(), (torch.randn(9, 3), torch.randn(9, 5)), device_of(runtime)
    artifact = written(module, inputs, tmp_path / "model", device=device, precision=precision)
    for found, wanted in zip(predicted(artifact, inputs, device), module(*inputs), strict=True):
        assert found.shape == wanted.shape
        assert off(found, wanted) < (1e-3 if precision == "fp32" else 0.1)


@pytest.mark.parametrize("runtime", MOBILE)
def test_other_precisions_are_refused(runtime: str, tmp_path: Path) -> None:
    with pytest.raises(StageError, match="in fp32 and int8, not in fp16"):
        written(
            Two().eval(),
            (torch.randn(2, 3), torch.randn(2, 5)),
            tmp_path / "m",
            device=device_of(runtime),
            precision="fp16",
        )


@pytest.mark.parametrize("runtime", MOBILE)
def test_bundle_runs_in_a_bare_process(runtime: str, tmp_path: Path) -> None:
    module, inputs, device = Two().eval(), (torch.randn(2, 3), torch.randn(2, 5)), device_of(runtime, batch=2)
    artifact = written(module, inputs, tmp_path / "model", device=device)
    manifest = write_bundle(
        tmp_path / "bundle", recipe=Recipe(), module=module, artifact=artifact, example_inputs=inputs, kept={}
    )
    form = format_of(artifact.path)
    assert f"model{form.suffix}" in manifest.files
    assert not any(name.endswith(".onnx") for name in manifest.files)
    command = [sys.executable, "-I", "-W", "ignore", str(tmp_path / "bundle" / "use.py")]
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines() == [
        f"{form.runtime}, for an input of zeros, gives shapes [(2, 8), (2, 6)]",
        "PyTorch, for the same, gives shapes [(2, 8), (2, 6)]",
    ]


@pytest.mark.parametrize("runtime", MOBILE)
def test_what_a_converter_refuses_is_a_stage_error(runtime: str, tmp_path: Path) -> None:
    class Refused(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return x * float(x.sum())

    with pytest.raises(StageError, match="cannot be exported for") as caught:
        written(Refused().eval(), (torch.randn(2, 3),), tmp_path / "model", device=device_of(runtime))
    assert caught.value.kind == "export"
