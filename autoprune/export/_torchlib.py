"""torch.onnx reads the sources of its 500 operators again for every export, about half of a small model's time."""

import functools
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any


@contextmanager
def read_once() -> Iterator[None]:
    """Meanwhile they are read once in a process; nothing happens with a torch that is made otherwise."""
    try:
        from torch.onnx._internal.exporter import _registration

        apis: Any = vars(_registration)["onnxscript_apis"]
        original = apis.get_torchlib_ops
    except (ImportError, KeyError, AttributeError):
        yield
        return
    apis.get_torchlib_ops = functools.partial(_operators, original)
    try:
        yield
    finally:
        apis.get_torchlib_ops = original


@functools.cache
def _operators(read: Any) -> Any:
    return read()
