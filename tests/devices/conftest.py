import numpy as np
import pytest

from autoprune.devices import Arrays
from autoprune.devices.networks import network
from autoprune.hardware import HardwareProfile
from autoprune.records import Artifact


@pytest.fixture
def profile() -> HardwareProfile:
    return HardwareProfile(name="here", description="this machine", runtime="onnxruntime")


@pytest.fixture(scope="session")
def artifact(tmp_path_factory: pytest.TempPathFactory) -> Artifact:
    path = tmp_path_factory.mktemp("artifact") / "model"
    return network(path, "onnx", width=8, kernel=3, layers=2, size=8)


@pytest.fixture
def inputs() -> Arrays:
    return [np.random.default_rng(0).normal(size=(1, 8, 8, 8)).astype(np.float32)]
