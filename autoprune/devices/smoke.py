"""Whether a device works: a small network, timed there, and computed there and here."""

import tempfile
from pathlib import Path

import numpy as np

from autoprune.devices._base import Arrays, Device
from autoprune.devices.networks import network
from autoprune.devices.runtimes.onnxruntime import OnnxRuntimeDevice
from autoprune.devices.timing import measure
from autoprune.errors import StageError
from autoprune.records import Artifact, Measurement

WIDTH, LAYERS, SIZE = 64, 4, 16
TOLERANCE = 1e-3  # of the largest output


def smoke(device: Device) -> tuple[Measurement, float | None]:
    """The latency of a network of convolutions, and the largest error of its outputs as a share of the largest output.

    The error is None where the device does not tell its outputs.

    Raises:
        StageError: it does not load, run or settle there, or computes something else (of kind ``parity``).
        DeviceError: the device cannot be reached.
    """
    inputs = [np.random.default_rng(0).normal(size=(1, WIDTH, SIZE, SIZE)).astype(np.float32)]
    with tempfile.TemporaryDirectory() as folder:
        ours, artifact = (
            network(Path(folder) / "smoke", form, width=WIDTH, kernel=3, layers=LAYERS, size=SIZE)
            for form in ("onnx", device.format)
        )
        error = _error(device, artifact, ours, inputs) if device.computes else None
        with device.lease(), device.open(artifact, inputs) as session:
            return measure(session, device.profile.timing, device.circumstances("fp32")), error


def _error(device: Device, artifact: Artifact, ours: Artifact, inputs: Arrays) -> float:
    with device.predictor(artifact) as there, OnnxRuntimeDevice.here().predictor(ours) as here:
        found, (wanted,) = there(inputs), here(inputs)
    if [array.shape for array in found] != [wanted.shape]:
        shapes = [array.shape for array in found]
        raise StageError(f"The device gives outputs of shapes {shapes}, not {wanted.shape}.", kind="parity")
    error = float(np.abs(found[0] - wanted).max() / np.abs(wanted).max())
    if not error <= TOLERANCE:
        raise StageError(f"The device computes something else: outputs are off by {error:.1e}.", kind="parity")
    return error
