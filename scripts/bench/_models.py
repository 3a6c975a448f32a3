"""The models that benchmarks search: digits, and the CIFAR-10 ResNets of a folder.

AUTOPRUNE_CIFAR10 names it: ``cifar10/`` with the data, ``models/cifar10_resnet{20,56}.safetensors`` with the weights
(see ``autoprune.tasks.cifar10``).
"""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from itertools import islice
from pathlib import Path
from typing import Any

from _bench import Bench

from autoprune.engine.prepare import Prepared


def cifar10(bench: Bench) -> bool:
    """Whether there is such a folder; says so where there is none."""
    if "AUTOPRUNE_CIFAR10" not in os.environ:
        bench.say("AUTOPRUNE_CIFAR10 is not set: there is nothing of CIFAR-10 to measure")
        return False
    return True


def task_of(model: str) -> dict[str, Any]:
    """What `autoprune.engine.configure` is told of that model's task."""
    if model == "digits":
        return {"task": "digits"}
    given = Path(os.environ["AUTOPRUNE_CIFAR10"])
    weights = given / "models" / f"cifar10_{model}.safetensors"
    return {"task": "cifar10", "options": {"data": str(given / "cifar10"), "model": model, "weights": str(weights)}}


def scored_on(prepared: Prepared, samples: int | None) -> Prepared:
    """With so many validation samples, in whole batches; all of them where it is None."""
    if samples is None:
        return prepared
    batches = list(prepared.task.validation)
    few = islice(batches, -(-samples // len(batches[0][1])))
    return replace(prepared, task=replace(prepared.task, validation=[*few]))


@contextmanager
def cache_in(folder: Path) -> Iterator[None]:
    """Tables are kept there, and none is known from before where it is empty."""
    before = os.environ.get("XDG_CACHE_HOME")
    os.environ["XDG_CACHE_HOME"] = str(folder)
    try:
        yield
    finally:
        os.environ.pop("XDG_CACHE_HOME")
        os.environ.update({} if before is None else {"XDG_CACHE_HOME": before})
