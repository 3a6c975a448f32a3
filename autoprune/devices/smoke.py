"""Whether a device works: a small network, timed there, and computed there and here."""

import tempfile
from pathlib import Path

import numpy as np

from autoprune.devices._base import Device
from autoprune.devices.networks import network
from autoprune.devices.runtimes.onnxruntime import OnnxRuntimeDevice
from autoprune.devices.timing import measure
from autoprune.errors import StageError
from autoprune.hardware import HardwareProfile
from autoprune.records import Measurement

WIDTH, LAYERS, SIZE = 64, 4, 16
TOLERANCE = 1e-3  # of the largest output


def smoke(device: Device) -> tuple[Measurement, float]:
    """The latency of a network of convolutions, and the largest error of its outputs as a share of the largest output.

    Raises:
        StageError: it does not load, run or settle there, or computes something else (of kind ``parity``).
        DeviceError: the device cannot be reached.
    """
    inputs = [np.random.default_rng(0).normal(size=(1, WIDTH, SIZE, SIZE)).astype(np.float32)]
    here = OnnxRuntimeDevice(HardwareProfile(name="here", description="this machine", runtime="onnxruntime"))
    with tempfile.TemporaryDirectory() as folder:
        ours, artifact = (
            network(Path(folder) / "smoke", form, width=WIDTH, kernel=3, layers=LAYERS, size=SIZE)
            for form in (here.format, device.format)
        )
        with device.predictor(artifact) as there, here.predictor(ours) as reference:
            (found,), (wanted,) = there(inputs), reference(inputs)
        error = float(np.abs(found - wanted).max() / np.abs(wanted).max())
        if not error <= TOLERANCE:
            raise StageError(f"The device computes something else: outputs are off by {error:.1e}.", kind="parity")
        with device.lease(), device.open(artifact, inputs) as session:
            return measure(session, device.profile.timing, device.circumstances("fp32")), error
