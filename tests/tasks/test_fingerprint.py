"""Fingerprints notice every change, and nothing else."""

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

from autoprune.errors import TaskError
from autoprune.task import Task
from autoprune.tasks import fingerprint
from autoprune.tasks._images import ImageBatches
from tests.tasks.test_check import batch, good, net


def changed(before: Task, after: Task) -> set[str]:
    was, now = fingerprint(before), fingerprint(after)
    assert set(was) == set(now) == {"code", "weights", "data"}
    return {key for key in was if was[key] != now[key]}


@pytest.mark.parametrize("split", ["train", "validation", "test"])
def test_data(split: str) -> None:
    images, labels = batch()
    for other in ((images + 1e-6, labels), (images, labels.flip(0)), (images.double(), labels)):
        assert changed(good(**{split: [batch()]}), good(**{split: [other]})) == {"data"}


def test_a_test_split_that_is_gone() -> None:
    assert changed(good(), good(test=None)) == {"data"}


def test_weights_even_of_types_that_numpy_lacks() -> None:
    assert changed(good(), good(model=lambda: net(1))) == {"weights"}
    half = [nn.BatchNorm1d(3).bfloat16() for _ in range(2)]
    half[1].bias.data[0] = 1
    assert changed(good(model=lambda: half[0]), good(model=lambda: half[1])) == {"weights"}


def test_code(tmp_path: Path) -> None:
    source = tmp_path / "a.py"
    source.write_text("1")
    task = good(sources=(str(source),))
    before = fingerprint(task)
    assert fingerprint(task) == before
    source.write_text("2")
    assert {key for key, value in fingerprint(task).items() if before[key] != value} == {"code"}
    source.unlink()
    with pytest.raises(TaskError, match=r"source file .*a\.py cannot be read: No such file"):
        fingerprint(task)


class Noise:
    """Augments with NumPy's global generator, or with one of its own."""

    def __init__(self, generator: np.random.Generator | None = None, *, offset: float = 0.0) -> None:
        self.generator, self.offset = generator, offset

    def __iter__(self) -> Iterator[tuple[Tensor, Tensor]]:
        images, labels = batch()
        for _ in range(3):
            noise = self.generator.random() if self.generator else np.random.rand()
            yield images + noise + self.offset, labels


def test_augmentation_changes_nothing() -> None:
    images = torch.arange(32 * 12, dtype=torch.int64).to(torch.uint8).reshape(32, 3, 2, 2)
    ours = ImageBatches(images, torch.arange(32), batch=8, mean=(0.0,) * 3, std=(1.0,) * 3, shift=1, flip=True)
    shuffled = DataLoader(TensorDataset(*batch()), batch_size=2, shuffle=True)
    for train in (ours, shuffled, Noise(), Noise(np.random.default_rng(0))):
        found = set()
        for seed in range(3):  # as another process would draw
            torch.manual_seed(seed)
            np.random.seed(seed)
            found.add(fingerprint(good(train=train))["data"])
        assert len(found) == 1


def test_a_change_is_seen_through_augmentation() -> None:
    assert changed(good(train=Noise()), good(train=Noise(offset=1.0))) == {"data"}


def test_the_callers_random_numbers_are_left_alone() -> None:
    torch.manual_seed(3)
    np.random.seed(3)
    expected = torch.rand(1), np.random.rand()
    torch.manual_seed(3)
    np.random.seed(3)
    fingerprint(good(train=Noise()))
    assert (torch.rand(1), np.random.rand()) == expected


def test_another_process_finds_the_same() -> None:
    code = (
        "from tests.tasks.test_check import good; from autoprune.tasks import fingerprint; print(fingerprint(good()))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == str(fingerprint(good()))
