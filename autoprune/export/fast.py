"""The fast path: a candidate's ONNX graph from the dense model's, by exchanging weights and sizes.

`torch.onnx` needs seconds for a model, and nearly all of its work is the same for every cut. So it runs twice, on the
dense model and on a probe in which every group has lost some units. Where the two ONNX graphs differ, a number of the
captured graph must have changed by the same ratio (the size in a view, the amount of a padding, the rows of a weight):
that pair is learned, and filled in for each candidate from its own captured graph. What differs without such a cause,
or a candidate that changes what the probe did not, is exported afresh. A dropped branch is filled in as if some of it
were left; then the layer that ends it gives way to its constant.
"""

from __future__ import annotations

import random
import tempfile
from collections.abc import Callable, Sequence
from fractions import Fraction
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

from torch import Tensor, nn

from autoprune.errors import AutopruneError
from autoprune.export.onnx import export_fresh, finish
from autoprune.export.parity import Array, parity
from autoprune.export.sizes import NotUnderstoodError
from autoprune.export.template import Template
from autoprune.records import Artifact

if TYPE_CHECKING:
    import onnx_ir

    from autoprune.graph.groups import PruneGroup
    from autoprune.graph.model import Keep, PrunableGraph

PROOFS = 2
"""Cuts that the template must export correctly before it is trusted; parity is checked on every candidate besides."""


class Exporter:
    """Exports the candidates of one graph, in milliseconds where it can.

    Attributes:
        fast: artifacts made from the template.
        fresh: artifacts made by `export_fresh`, because the template did not fit.
    """

    def __init__(self, graph: PrunableGraph, example_inputs: tuple[Tensor, ...], workdir: Path) -> None:
        self._graph = graph
        self._inputs = example_inputs
        self._workdir = workdir
        self.fast = 0
        self.fresh = 0

    def export(self, module: nn.Module, path: Path, *, keep: Keep | None = None) -> Artifact:
        """Write ``module``, a cut of the graph in evaluation mode, to ``path``: the same graph as `export_fresh` gives.

        ``keep`` is the cut, needed for a fast export where it drops groups. Raises StageError like `export_fresh`.
        """
        template = self._template
        try:
            if isinstance(template, str):
                raise NotUnderstoodError(template)
            if _drops(keep) and self._drop_refusal is not None:
                raise NotUnderstoodError(self._drop_refusal)
            artifact = finish(self._fill(template, module, keep), path)
            self.fast += 1
        except NotUnderstoodError:
            artifact = export_fresh(module, self._inputs, path)
            self.fresh += 1
        return artifact

    @cached_property
    def refusal(self) -> str | None:
        """Why there is no fast path for this graph; None where there is."""
        return self._template if isinstance(self._template, str) else None

    @cached_property
    def _template(self) -> Template | str:
        try:
            dense, probe = (self._graph.cut(keep).eval() for keep in ({}, _probe(self._graph.groups)))
            template = Template.learn(dense, probe, self._inputs)
            for seed in range(PROOFS):
                self._prove(template, _random_cut(self._graph.groups, seed))
        except (NotUnderstoodError, AutopruneError) as error:
            return str(error)
        return template

    @cached_property
    def _drop_refusal(self) -> str | None:
        """Why a candidate with dropped groups is exported afresh; None where it need not be."""
        assert isinstance(self._template, Template)
        try:
            for seed in range(PROOFS):
                kept = _random_cut(self._graph.groups, seed)
                dropped = [group.id for group in self._graph.groups if group.droppable][seed :: seed + 1]
                self._prove(self._template, kept | dict.fromkeys(dropped, ()))
        except (NotUnderstoodError, AutopruneError) as error:
            return str(error)
        return None

    def _fill(self, template: Template, module: nn.Module, keep: Keep | None) -> onnx_ir.Model:
        if keep is None or not _drops(keep):
            return template.fill(module)
        undropped = self._graph.cut({name: units if len(units) else (0,) for name, units in keep.items()}).eval()
        return template.fill(module, undropped=undropped)

    def _prove(self, template: Template, keep: Keep) -> None:
        """Raises where this cut, exported by ``template``, does not compute what its module computes."""
        module = self._graph.cut(keep).eval()
        try:
            model = self._fill(template, module, keep)
        except NotUnderstoodError:
            return  # then such candidates are exported afresh
        self._workdir.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=self._workdir) as folder:
            artifact = finish(model, Path(folder) / "proof.onnx")
            parity(_predictor(artifact), module, self._graph.example_inputs)


def _drops(keep: Keep | None) -> bool:
    return any(len(units) == 0 for units in (keep or {}).values())


def _random_cut(groups: tuple[PruneGroup, ...], seed: int) -> dict[str, Sequence[int]]:
    chance = random.Random(seed)  # noqa: S311 - which cuts are tried is no secret
    units = {group.id: chance.sample(range(group.size), chance.randint(1, group.size)) for group in groups}
    return {name: sorted(kept) for name, kept in units.items()}


def _predictor(artifact: Artifact) -> Callable[[Sequence[Array]], Sequence[Array]]:
    """Runs ``artifact`` in ONNX Runtime. Raises NotUnderstoodError where that refuses it."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4  # its errors come as exceptions
    try:
        session = onnxruntime.InferenceSession(artifact.path, options, providers=["CPUExecutionProvider"])
    except Exception as error:
        raise NotUnderstoodError(f"A cut by the template does not load: {error}") from error
    names = [node.name for node in session.get_inputs()]

    def predict(inputs: Sequence[Array]) -> Sequence[Array]:
        try:
            return list(session.run(None, dict(zip(names, inputs, strict=True))))
        except Exception as error:
            raise NotUnderstoodError(f"A cut by the template does not run: {error}") from error

    return predict


def _probe(groups: tuple[PruneGroup, ...]) -> dict[str, range]:
    """A cut of all groups, to fractions that differ from each other where possible: they tell the groups apart.

    Twice as many units are dropped behind as in front, to tell the two ends of a padding or slice apart.
    """
    keep: dict[str, range] = {}
    taken: set[Fraction] = set()
    for group in sorted(groups, key=lambda group: (group.size, group.id)):
        sizes = [*range(group.size - 3, 1, -1), *range(min(group.size - 1, 3), 0, -1)]
        if group.size > 1:
            kept = next((size for size in sizes if Fraction(size, group.size) not in taken), sizes[0])
            taken.add(Fraction(kept, group.size))
            first = (group.size - kept) // 3
            keep[group.id] = range(first, first + kept)
    return keep
