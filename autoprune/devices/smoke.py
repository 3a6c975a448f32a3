"""Whether a device works: a small network, timed there, and computed there and here."""

import hashlib
import tempfile
from pathlib import Path

import numpy as np

from autoprune.devices._base import Arrays, Device
from autoprune.devices.runtimes.onnxruntime import on_this_machine
from autoprune.devices.staircase import convolutions
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
        path = Path(folder) / "smoke.onnx"
        content = convolutions(WIDTH, kernel=3, layers=LAYERS, size=SIZE).SerializeToString()
        path.write_bytes(content)
        digest = hashlib.sha256(content).hexdigest()
        artifact = Artifact(path=path, precision="fp32", sha256=digest, size_bytes=len(content))
        error = _error(device, artifact, inputs) if device.computes else None
        with device.lease(), device.open(artifact, inputs) as session:
            return measure(session, device.profile.timing, device.circumstances("fp32")), error


def _error(device: Device, artifact: Artifact, inputs: Arrays) -> float:
    with device.predictor(artifact) as there, on_this_machine().predictor(artifact) as here:
        found, (wanted,) = there(inputs), here(inputs)
    if [array.shape for array in found] != [wanted.shape]:
        shapes = [array.shape for array in found]
        raise StageError(f"The device gives outputs of shapes {shapes}, not {wanted.shape}.", kind="parity")
    error = float(np.abs(found[0] - wanted).max() / np.abs(wanted).max())
    if not error <= TOLERANCE:
        raise StageError(f"The device computes something else: outputs are off by {error:.1e}.", kind="parity")
    return error
