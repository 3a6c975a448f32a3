"""One pruned ResNet-20 in the runtimes of a CPU: latencies side by side, blocks interleaved, and parity with PyTorch.

Its weights are random, its BatchNorms have seen the images: noise, which is all that latency and parity need. The
channels are halved, none below 16. Run it on an idle machine.
"""

import tempfile
from contextlib import ExitStack
from pathlib import Path

import numpy as np
import torch
from _bench import Bench, main
from torch import Tensor, nn

from autoprune.devices import Device, measure_together, open_device
from autoprune.export import find_format
from autoprune.graph.model import PrunableGraph
from autoprune.hardware import Precision, TimingPolicy, load_profile
from autoprune.tasks.nets.resnet_cifar import cifar_resnet

TARGETS = ("cpu", "mobile-cpu", "litert-cpu")
PRECISIONS: tuple[Precision, ...] = ("fp32", "int8")
IMAGES, NARROWEST = 128, 16
HURRY = TimingPolicy(warmup_ms=5, blocks=6, block_ms=2, settle_percent=1000)


def run(bench: Bench) -> None:
    torch.manual_seed(0)
    images = torch.randn(IMAGES, 3, 32, 32)
    module = pruned(images)
    devices = {target: open_device(load_profile(target)) for target in TARGETS}
    policy = HURRY if bench.quick else devices["cpu"].profile.timing
    with tempfile.TemporaryDirectory() as folder, ExitStack() as stack:
        stack.enter_context(devices["cpu"].lease())
        sessions, circumstances, errors = {}, {}, {}
        for precision in PRECISIONS:
            for target, device in devices.items():
                name = f"{target} {precision}"
                form = find_format(device.format).suited(device.facts())
                path, calibration = Path(folder) / f"{name}{form.suffix}", [(images.numpy(),)]
                artifact = form.write(module, (images[:1],), path, precision=precision, calibration=calibration)
                with device.predictor(artifact) as predict:
                    errors[name] = off(predict([images.numpy()])[0], module(images))
                sessions[name] = stack.enter_context(device.open(artifact, [images[:1].numpy()]))
                circumstances[name] = device.circumstances(precision)
                bench.say(f"{name}: {artifact.size_bytes / 1e3:.0f} kB")
        timed = measure_together(sessions, policy, circumstances)
    for precision in PRECISIONS:
        names = {label(devices[target]): f"{target} {precision}" for target in TARGETS}
        latencies = {f"{runtime} (ms)": timed[name].median_ms for runtime, name in names.items()}
        apart = {f"{runtime} off by": errors[name] for runtime, name in names.items()}
        disturbed = any(timed[name].disturbed for name in names.values())
        bench.row(precision=precision, **latencies, **apart, disturbed=disturbed)
    worst = max(error for name, error in errors.items() if name.endswith("fp32"))
    bench.figure("largest difference from PyTorch in FP32, as a share of the outputs' range", worst, goal="<= 1e-3")


def label(device: Device) -> str:
    """Its runtime and version."""
    return f"{device.runtime} {device.runtime_version}"


def pruned(images: Tensor) -> nn.Module:
    """ResNet-20, halved."""
    model = cifar_resnet(20).train()
    with torch.no_grad():
        model(images)
    graph = PrunableGraph.capture(model.eval(), (images[:2],))
    kept = {group.id: range(max(min(NARROWEST, group.size), group.size // 2)) for group in graph.groups}
    return graph.cut(kept).eval()


def off(found: np.ndarray, wanted: Tensor) -> float:
    """The largest difference, as a share of the range."""
    exact = wanted.detach().numpy()
    return float(np.abs(found - exact).max() / np.ptp(exact))


if __name__ == "__main__":
    main("Runtimes", run)
