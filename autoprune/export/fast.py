"""The fast path: candidates from the dense model's ONNX graph, by exchanging weights and sizes."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from torch import Tensor, nn

from autoprune.export.onnx import export_fresh
from autoprune.records import Artifact

if TYPE_CHECKING:
    from autoprune.graph.model import PrunableGraph


class Exporter:
    """Exports the candidates of one graph."""

    def __init__(self, graph: PrunableGraph, example_inputs: tuple[Tensor, ...], workdir: Path) -> None:
        self._graph = graph
        self._inputs = example_inputs
        self._workdir = workdir

    def export(self, module: nn.Module, path: Path) -> Artifact:
        """Write ``module``, a cut of the graph, to ``path``. Raises StageError like `export_fresh`."""
        return export_fresh(module, self._inputs, path)
