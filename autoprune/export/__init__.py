"""Model -> Artifact: the formats that runtimes take (ONNX fast from the dense model's graph), parity, bundles."""

from autoprune.export.bundle import Manifest, read_manifest, write_bundle
from autoprune.export.fast import Exporter
from autoprune.export.formats import Format, find_format, format_of
from autoprune.export.onnx import export_fresh
from autoprune.export.parity import TOLERANCE, deviation, parity

__all__ = [
    "TOLERANCE",
    "Exporter",
    "Format",
    "Manifest",
    "deviation",
    "export_fresh",
    "find_format",
    "format_of",
    "parity",
    "read_manifest",
    "write_bundle",
]
