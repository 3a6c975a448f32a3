"""Structured Optimal Brain Surgeon."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from autoprune.compress.batches import as_inputs, batch_within, seeded, take
from autoprune.compress.criteria.l2 import CRITERION as GROUP_L2

if TYPE_CHECKING:
    from collections.abc import Sequence

    from torch import Tensor

    from autoprune.compress.layers import Layer
    from autoprune.graph import PruneGroup
    from autoprune.graph.model import PrunableGraph
    from autoprune.task import Task


@dataclass(frozen=True)
class OptimalBrainSurgeon:
    """How much of the outputs' variance is lost by the time the unit goes, when units are removed greedily and after
    each the weights that remain are set anew in closed form.

    The outputs are those of the layers that read the group's units: convolutions (of one group) and linear layers with
    at most ``columns`` inputs times kernel size. Each layer's error counts as a share of its outputs' variance (after
    the BatchNorm that follows, if one does), summed over the layers. A group that no such layer reads (the inner width
    of attention scores), or that a recurrent layer reads too, is ranked by `l2`.

    At most ``rows`` output positions of ``samples`` training samples (fewer of large ones: ``elements`` input numbers
    in all) make the Hessians, damped by ``damping`` times their mean diagonal.

    Source: Hassibi and Stork 1993, "Second Order Derivatives for Network Pruning: Optimal Brain Surgeon"; layer by
    layer, Frantar and Alistarh 2022, "Optimal Brain Compression"; for coupled columns, Kurtic, Frantar and Alistarh
    2023, "ZipLM".
    """

    name: str = "obs"
    description: str = "greedy: least error of the layers that read the unit, after refitting them"
    needs_data: bool = True
    samples: int = 512
    rows: int = 8192
    damping: float = 1e-3
    columns: int = 4608
    elements: int = 2**22

    def score(self, graph: PrunableGraph, task: Task, *, seed: int) -> dict[str, Tensor]:
        """See `Criterion.score`; nan where activations are not finite. Raises TaskError when there is no data."""
        from autoprune.compress.layers import layers_of

        model = graph.module().eval()
        layers = {layer.weight_name: layer for layer in layers_of(model) if layer.weight[0].numel() <= self.columns}
        readings = {group.id: _readings(group, layers) for group in graph.groups}
        moments = self._moments(model, [layers[name] for reading in readings.values() for name in reading], task, seed)
        scores = GROUP_L2.score(graph, task, seed=seed)
        for group, reading in readings.items():
            if not all(moments[name].finite for name in reading):
                scores[group].fill_(float("nan"))
            elif reading:
                readers = [Reader.of(moments[name], units, self.damping) for name, units in reading.items()]
                scores[group] = remove_all(readers)
        return scores

    def _moments(self, model: Any, layers: Sequence[Layer], task: Task, seed: int) -> dict[str, Moments]:
        import torch

        from autoprune.compress.interpret import Interpreter

        samples = min(self.samples, batch_within(task, self.elements, at_least=32))
        with seeded(seed):
            batches = take(task, samples, batch=128)
        rows = -(-self.rows // len(batches))
        moments = {layer.weight_name: Moments(layer, rows) for layer in layers}
        interpreter = Interpreter(model, {layer.node: moments[layer.weight_name].observe for layer in layers})
        with torch.no_grad():
            for inputs, _ in batches:
                interpreter.run(*as_inputs(inputs))
        return moments


class Moments:
    """The covariance of what a layer's matrix is multiplied with; `observe` stands in for the layer."""

    def __init__(self, layer: Layer, rows: int) -> None:
        self.layer = layer
        self.rows = rows
        self.count = 0
        self.shift: Any = None
        self.total: Any = 0
        self.gram: Any = 0

    def observe(self, *args: Any) -> Tensor:
        """Answer like the layer, and add to the sums."""
        y: Tensor = self.layer.operator(*args)
        x = self.layer.patches(args[0], y.shape, self.layer.positions(y.shape, self.rows))
        if self.shift is None:
            self.shift = x.mean(0) if self.layer.takes_constant else x.new_zeros(x.shape[1])
        x = x - self.shift
        self.count += len(x)
        self.total = self.total + x.double().sum(0)
        self.gram = self.gram + x.T @ x
        return y

    @property
    def finite(self) -> bool:
        """Whether all that was seen is finite."""
        return bool(self.gram.isfinite().all())

    def covariance(self) -> Tensor:
        """Float64 (inputs times kernel size) squared; about zero where the layer cannot take a constant."""
        gram: Tensor = self.gram.double() / self.count
        if self.layer.takes_constant:
            mean = self.total / self.count
            gram -= mean.outer(mean)
        return gram


def _readings(group: PruneGroup, layers: dict[str, Layer]) -> dict[str, list[list[int]]]:
    """For each layer that reads the group, by weight name, the columns of its matrix that belong to each unit."""
    readings: dict[str, list[list[int]]] = defaultdict(lambda: [[] for _ in range(group.size)])
    written = {member.parameter for member in group.members if member.dim == 0}
    for member in group.members:
        if member.dim == 1 and (layer := layers.get(member.parameter)) is not None:
            kernel = layer.weight[0, 0].numel()
            for columns, channels in zip(readings[member.parameter], member.index, strict=True):
                columns.extend(channel * kernel + tap for channel in channels for tap in range(kernel))
        elif member.dim == 1 and member.parameter in written:
            return {}
    return dict(readings)


@dataclass
class Reader:
    """A layer whose inputs are being removed.

    Attributes:
        matrix: (outputs, inputs), the columns of unit after unit, then those of no unit.
        inverse: of the Hessian, (inputs, inputs) in the same order.
        width: columns of each unit.
        units: how many are left.
    """

    matrix: Tensor
    inverse: Tensor
    width: int
    units: int

    @classmethod
    def of(cls, moments: Moments, units: list[list[int]], damping: float) -> Reader:
        """Before any removal: ``units`` are the columns of each; the error is a share of the outputs' variance."""
        import torch

        layer = moments.layer
        matrix, hessian = layer.weight.detach().double().flatten(1), moments.covariance()
        if layer.norm is not None:
            matrix = matrix * layer.norm.scale.double()[:, None]
        matrix = matrix / ((matrix @ hessian) * matrix).sum().sqrt().clamp(min=1e-30)
        hessian.diagonal().mul_(1 + damping).add_(hessian.diagonal().mean() * 1e-9 + 1e-30)
        owned = [column for columns in units for column in columns]
        rest = sorted(set(range(len(hessian))) - set(owned))
        order = torch.tensor(owned + rest)
        inverse = torch.cholesky_inverse(torch.linalg.cholesky(hessian))
        return cls(matrix[:, order], inverse[order][:, order], len(units[0]), len(units))

    def costs(self) -> Tensor:
        """The squared error that removing each unit causes, after the update: (units,)."""
        import torch

        n, k = self.units, self.width
        blocks = self.inverse[: n * k, : n * k].view(n, k, n, k).diagonal(dim1=0, dim2=2).permute(2, 0, 1)
        weights = self.matrix[:, : n * k].view(-1, n, k).permute(1, 2, 0)
        factors = torch.linalg.cholesky(blocks)
        whitened: Tensor = torch.linalg.solve_triangular(factors, weights, upper=False)
        return whitened.square().sum((1, 2))

    def remove(self, unit: int) -> None:
        """Remove the columns of a unit; the other weights take over what they can."""
        import torch

        start, end = unit * self.width, (unit + 1) * self.width
        rows = self.inverse[start:end]
        update = torch.linalg.solve(rows[:, start:end], rows)
        left = torch.cat([torch.arange(start), torch.arange(end, len(self.inverse))])
        self.matrix = (self.matrix - self.matrix[:, start:end] @ update)[:, left]
        self.inverse = self.inverse[left][:, left] - rows[:, left].T @ update[:, left]
        self.units -= 1


def remove_all(readers: Sequence[Reader]) -> Tensor:
    """The sum of all costs up to and with each unit's, removing greedily the unit of least cost: (units,)."""
    import torch

    left = list(range(readers[0].units))
    lost, scores = 0.0, torch.zeros(len(left), dtype=torch.float64)
    while left:
        costs = torch.stack([reader.costs() for reader in readers]).sum(0)
        unit = int(costs.argmin())
        lost += float(costs[unit])
        scores[left.pop(unit)] = lost
        for reader in readers:
            reader.remove(unit)
    return scores


CRITERION = OptimalBrainSurgeon()
