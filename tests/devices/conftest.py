import hashlib
from pathlib import Path

import numpy as np
import pytest

from autoprune.devices import Arrays
from autoprune.devices.staircase import convolutions
from autoprune.hardware import HardwareProfile
from autoprune.records import Artifact


@pytest.fixture
def profile() -> HardwareProfile:
    return HardwareProfile(name="here", description="this machine", runtime="onnxruntime")


@pytest.fixture(scope="session")
def artifact(tmp_path_factory: pytest.TempPathFactory) -> Artifact:
    path: Path = tmp_path_factory.mktemp("artifact") / "model.onnx"
    content = convolutions(8, kernel=3, layers=2, size=8).SerializeToString()
    path.write_bytes(content)
    return Artifact(path=path, precision="fp32", sha256=hashlib.sha256(content).hexdigest(), size_bytes=len(content))


@pytest.fixture
def inputs() -> Arrays:
    return [np.random.default_rng(0).normal(size=(1, 8, 8, 8)).astype(np.float32)]
