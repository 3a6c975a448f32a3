"""Model -> Artifact: ONNX export (fresh, or fast from the dense model's graph), parity, bundles for deployment."""

from autoprune.export.bundle import Manifest, read_manifest, write_bundle
from autoprune.export.fast import Exporter
from autoprune.export.onnx import export_fresh
from autoprune.export.parity import TOLERANCE, deviation, parity

__all__ = ["TOLERANCE", "Exporter", "Manifest", "deviation", "export_fresh", "parity", "read_manifest", "write_bundle"]
