"""Tensors without numpy: a dtype, a shape and the bytes."""

from __future__ import annotations

import math
from typing import Any, NamedTuple

SIZES = {"float32": 4, "float16": 2, "int64": 8, "int32": 4, "int8": 1, "uint8": 1, "bool": 1}


class Tensor(NamedTuple):
    """One array; the batch is its first dimension."""

    dtype: str
    shape: tuple[int, ...]
    data: bytes

    def samples(self, start: int, stop: int) -> Tensor:
        """Samples ``start`` to ``stop``; beyond the last one, the last one again."""
        size = len(self.data) // self.shape[0]
        data = self.data[start * size : stop * size]
        return Tensor(
            self.dtype, (stop - start, *self.shape[1:]), data + self.data[-size:] * (stop - start - len(data) // size)
        )


def unpacked(described: list[dict[str, Any]], data: bytes) -> list[Tensor]:
    """From their dtypes and shapes, and their bytes one after the other. Raises ValueError where these do not fit."""
    tensors, start = [], 0
    for one in described:
        shape = tuple(one["shape"])
        if one["dtype"] not in SIZES:
            raise ValueError(f"Tensors of {one['dtype']} are not known here.")
        stop = start + SIZES[one["dtype"]] * math.prod(shape)
        tensors.append(Tensor(one["dtype"], shape, data[start:stop]))
        start = stop
    if start != len(data):
        raise ValueError(f"{len(data)} bytes came for tensors of {start}.")
    return tensors


def packed(tensors: list[Tensor]) -> tuple[dict[str, Any], bytes]:
    """A reply with ``tensors`` as its outputs."""
    described = [{"dtype": one.dtype, "shape": list(one.shape)} for one in tensors]
    return {"outputs": described}, b"".join(one.data for one in tensors)


def joined(parts: list[list[Tensor]], batch: int) -> list[Tensor]:
    """The outputs of several runs, one behind the other, cut to ``batch`` samples."""
    found = []
    for pieces in zip(*parts):
        data, rest = b"".join(piece.data for piece in pieces), pieces[0].shape[1:]
        size = len(pieces[0].data) // pieces[0].shape[0]
        found.append(Tensor(pieces[0].dtype, (batch, *rest), data[: batch * size]))
    return found


def batches(inputs: list[Tensor], size: int) -> list[list[Tensor]]:
    """``inputs`` in batches of ``size``, the last one filled up."""
    return [[one.samples(n, n + size) for one in inputs] for n in range(0, inputs[0].shape[0], size)]
