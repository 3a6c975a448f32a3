"""Observations on disk: what was timed once on a device is not timed again, whoever asks and whatever was killed."""

from __future__ import annotations

import contextlib
import hashlib
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import platformdirs
from pydantic import ValidationError

from autoprune.files import code_digest, write_whole
from autoprune.latency.table import Observation

if TYPE_CHECKING:
    from autoprune.devices import Device
    from autoprune.records import Artifact

ROOMS = ("graph", "compress", "export")  # whose code decides what is timed


class Store:
    """A folder with one file per recipe. One that is torn or of another version counts as absent."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    @classmethod
    def of(cls, device: Device, dense: Artifact) -> Store:
        """The user's cache for this device, its options, this model, by `structure`, and the code that exports it."""
        options = device.profile.options.model_dump_json()
        parts = (device.fingerprint, options, structure(dense), code_digest(*ROOMS))
        key = hashlib.sha256(" ".join(parts).encode()).hexdigest()[:16]
        return cls(platformdirs.user_cache_path("autoprune") / "latency" / key)

    @property
    def key(self) -> str:
        """Of device, options and model."""
        return self.folder.name

    def read(self) -> dict[str, Observation]:
        """Observations by recipe id."""
        known = {}
        for path in sorted(self.folder.glob("*.json")):
            with contextlib.suppress(OSError, ValidationError, UnicodeDecodeError):
                known[path.stem] = Observation.model_validate_json(path.read_text(encoding="utf-8"))
        return known

    def add(self, observation: Observation) -> None:
        """Keep it; a cache that cannot be written costs minutes next time, not this result."""
        with contextlib.suppress(OSError):
            write_whole(self.folder / f"{observation.recipe.id}.json", observation.model_dump_json().encode())

    def clear(self) -> None:
        """Forget everything."""
        for path in self.folder.glob("*.json"):
            path.unlink()


def structure(artifact: Artifact) -> str:
    """Digest of an ONNX model's operators, attributes and shapes; weights do not count, since they cost no time.

    What is no ONNX is taken whole.
    """
    import onnx

    if artifact.path.suffix != ".onnx":
        return artifact.sha256
    model = onnx.load(artifact.path)
    nodes = [_digest(node) for node in model.graph.node]
    shapes = {tensor.name: [tensor.data_type, *tensor.dims] for tensor in model.graph.initializer}
    inputs = [_digest(value) for value in model.graph.input]
    return hashlib.sha256(json.dumps([nodes, shapes, inputs], sort_keys=True).encode()).hexdigest()


def _digest(part: Any) -> str:
    return hashlib.sha256(part.SerializeToString(deterministic=True)).hexdigest()
