"""What a candidate costs, from its widths alone, for many candidates at once."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from math import prod

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[np.float64]
Affine = tuple[float, tuple[float, ...]]
"""A width: what no group changes, and how much one unit of each group is worth."""
TILE = 64  # channels that kernels compute at a time: ONNX Runtime on AVX-512 four blocks of 16, GPUs 32 to 128


@dataclass(frozen=True, eq=False)
class Products:
    """A sum of products of widths, each affine in the units that groups keep: MACs, or parameters.

    Attributes:
        coefficients: one for each product: (products,).
        constants: of the widths that vary: (products, widths), padded with 1.
        slopes: of the same, by group: (products, widths, groups), padded with 0.
    """

    coefficients: Array
    constants: Array
    slopes: Array

    @classmethod
    def of(cls, terms: Sequence[Sequence[Affine]], groups: int) -> Products:
        """From the widths of each product; those that no group changes become part of its coefficient."""
        gathered: dict[tuple[Affine, ...], float] = defaultdict(float)
        for term in terms:
            varying = tuple(sorted(width for width in term if any(width[1])))
            gathered[varying] += prod(constant for constant, slopes in term if not any(slopes))
        most = max((len(varying) for varying in gathered), default=0)
        constants, slopes = np.ones((len(gathered), most)), np.zeros((len(gathered), most, groups))
        for row, varying in enumerate(gathered):
            for column, (constant, slope) in enumerate(varying):
                constants[row, column], slopes[row, column] = constant, slope
        return cls(np.array(list(gathered.values())), constants, slopes)

    def __call__(self, units: npt.ArrayLike, padding: float = 0.0) -> Array:
        """The sum for each row of ``units`` (candidates, groups): (candidates,).

        ``padding``: the part that counts of what a width lacks to the next multiple of `TILE`.
        """
        widths = np.tensordot(np.asarray(units, dtype=np.float64), self.slopes, axes=(1, 2)) + self.constants
        if padding:
            lacking = TILE * np.ceil((widths / TILE).round(9)) - widths
            widths += padding * lacking * (self.slopes >= 1).any(axis=2)  # others are parts of a width
        found: Array = widths.prod(axis=2) @ self.coefficients
        return found
