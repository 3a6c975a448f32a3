"""Digests of a task's code, weights and data, so that a resumed run notices a change."""

from __future__ import annotations

import hashlib
import random
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING

from autoprune.errors import TaskError
from autoprune.task import Task

if TYPE_CHECKING:
    from torch import Tensor

    from autoprune.task import Batch

TRAIN_BATCHES = 2


def fingerprint(task: Task) -> dict[str, str]:
    """SHA-256 digests: ``code`` of ``task.sources``, ``weights`` of the model's state dict, ``data`` of all splits.

    Of the training split only the first batches are read, with all global random generators seeded; where they still
    differ from one pass to the next (an augmentation with a generator of its own), only their shapes and types count.

    Raises:
        TaskError: a file of ``sources`` cannot be read.
    """
    return {
        "code": _code(task),
        "weights": digest_tensors(task.model().state_dict()),
        "data": _data(task),
    }


def digest_tensors(tensors: Mapping[str, Tensor]) -> str:
    """SHA-256 over names, types, shapes and values, in the order of the names."""
    digest = hashlib.sha256()
    for name in sorted(tensors):
        digest.update(name.encode())
        digest.update(_described(tensors[name]))
        digest.update(_content(tensors[name]))
    return digest.hexdigest()


def _code(task: Task) -> str:
    digest = hashlib.sha256()
    for path in sorted(map(Path, task.sources), key=lambda path: (path.name, str(path))):
        try:
            content = path.read_bytes()
        except OSError as error:
            raise TaskError(f"Task '{task.name}': source file {path} cannot be read: {error.strerror}.") from error
        digest.update(path.name.encode() + b"\0" + hashlib.sha256(content).digest())
    return digest.hexdigest()


def _data(task: Task) -> str:
    parts = [_split(task.validation), _split(task.test or ())]
    first, again = (_split(islice(task.train, TRAIN_BATCHES)) for _ in range(2))
    parts.append(first if first == again else _split(islice(task.train, TRAIN_BATCHES), values=False))
    return hashlib.sha256("".join(parts).encode()).hexdigest()


def _split(batches: Iterable[Batch], *, values: bool = True) -> str:
    from autoprune.compress.batches import as_inputs

    digest = hashlib.sha256()
    with _repeatable():
        for inputs, targets in batches:
            for tensor in (*as_inputs(inputs), targets):
                digest.update(_described(tensor))
                if values:
                    digest.update(_content(tensor))
    return digest.hexdigest()


@contextmanager
def _repeatable() -> Iterator[None]:
    """Everything drawn inside from the global generators of torch, NumPy and Python is the same each time."""
    import numpy as np

    from autoprune.compress.batches import seeded

    states = random.getstate(), np.random.get_state()
    random.seed(0)
    np.random.seed(0)  # the legacy global generator is the one that users' data sets draw from
    try:
        with seeded(0):
            yield
    finally:
        random.setstate(states[0])
        np.random.set_state(states[1])


def _described(tensor: Tensor) -> bytes:
    return f"{tensor.dtype}{tuple(tensor.shape)}".encode()


def _content(tensor: Tensor) -> bytes:
    import torch

    return tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().tobytes()
