"""Inputs and outputs of an ONNX file, read from its protobuf without any package.

Source: the field numbers in ``onnx.proto`` of the ONNX project.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple

GRAPH, INPUT, OUTPUT = 7, 11, 12
NAME, TYPE, TENSOR, KIND, SHAPE, DIM, VALUE = 1, 2, 1, 1, 2, 1, 1
KINDS = {1: "float32", 2: "uint8", 3: "int8", 6: "int32", 7: "int64", 9: "bool", 10: "float16"}
VARINT, BYTES = 0, 2
FIXED = {1: 8, 5: 4}


class End(NamedTuple):
    """An input or output; -1 in the shape is open."""

    name: str
    dtype: str
    shape: tuple[int, ...]


def ends(path: str) -> tuple[list[End], list[End]]:
    """Inputs and outputs. Raises ValueError where the file is no ONNX model of tensors."""
    with open(path, "rb") as file:
        data = file.read()
    try:
        graph = last(data, GRAPH)
        found = [[_end(value) for number, value in fields(graph) if number == which] for which in (INPUT, OUTPUT)]
    except (IndexError, KeyError, TypeError, UnicodeDecodeError) as error:
        raise ValueError("The file is no ONNX model of tensors.") from error
    return found[0], found[1]


def _end(value: bytes) -> End:
    tensor = last(last(value, TYPE), TENSOR)
    shape = [dict(fields(dim)).get(VALUE, -1) for number, dim in fields(last(tensor, SHAPE)) if number == DIM]
    return End(
        last(value, NAME).decode("utf-8"),
        KINDS[last(tensor, KIND)],
        tuple(n if isinstance(n, int) else -1 for n in shape),
    )


def last(data: bytes, number: int) -> Any:
    """The field of that number; as in protobuf, the last one counts. Raises KeyError."""
    return dict(fields(data))[number]


def fields(data: bytes) -> Iterator[tuple[int, Any]]:
    """Numbers and values of a message. Raises ValueError where it is none."""
    at = 0
    while at < len(data):
        key, at = _varint(data, at)
        kind = key & 7
        if kind == VARINT:
            value, at = _varint(data, at)
            yield key >> 3, value
            continue
        size, at = (FIXED[kind], at) if kind in FIXED else _varint(data, at) if kind == BYTES else (len(data) + 1, at)
        if at + size > len(data):
            raise ValueError("The file is no ONNX model of tensors.")
        yield key >> 3, data[at : at + size]
        at += size


def _varint(data: bytes, at: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        byte = data[at]
        at += 1
        value |= (byte & 127) << shift
        shift += 7
        if byte < 128:
            return value, at
        if shift > 63:
            raise ValueError("The file is no ONNX model of tensors.")
