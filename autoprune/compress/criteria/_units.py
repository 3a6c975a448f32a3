"""Sums over the slices of every unit of a group."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

    from torch import Tensor, nn

    from autoprune.graph import PruneGroup


def matrices(model: nn.Module) -> dict[str, Tensor]:
    """The parameters that multiply, float64: all but biases and the scales of norms, which have one dimension."""
    return {name: weight.detach().double() for name, weight in model.named_parameters() if weight.ndim > 1}


def sum_over_units(group: PruneGroup, values: Mapping[str, Tensor]) -> Tensor:
    """The sum of ``values`` over all slices of each unit across all members: float64 (size,).

    ``values`` holds one tensor of the parameter's shape for each parameter that counts; members without one (buffers
    such as running statistics) are left out. A weight that two members share (a square recurrent matrix cut in both
    dimensions) counts once for each.
    """
    import torch

    total = torch.zeros(group.size, dtype=torch.float64)
    for member in group.members:
        if (value := values.get(member.parameter)) is None:
            continue
        along = value.detach().double().movedim(member.dim, 0).flatten(1).sum(1) if value.ndim > 1 else value.double()
        units = torch.tensor([unit for unit, places in enumerate(member.index) for _ in places])
        places = torch.tensor([place for unit_places in member.index for place in unit_places])
        total.index_add_(0, units, along[places])
    return total
