"""The digits task: its splits, its network, its cache."""

from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from autoprune.task import accuracy
from autoprune.tasks import check_task, digits, fingerprint, load_task
from autoprune.tasks._images import ImageBatches
from autoprune.tasks.nets import digits as net

QUICK = net.Training(widths=(4, 8), epochs=1)


@pytest.fixture(autouse=True)
def _own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr("platformdirs.user_cache_path", lambda name: tmp_path / name)
    digits._weights.cache_clear()
    yield
    digits._weights.cache_clear()


def forget() -> None:
    """As in a new process."""
    digits._weights.cache_clear()


def same(a: torch.nn.Module, b: torch.nn.Module) -> bool:
    pairs = zip(a.state_dict().items(), b.state_dict().items(), strict=True)
    return all(name == other and torch.equal(x, y) for (name, x), (other, y) in pairs)


def score(model: torch.nn.Module, batches: ImageBatches) -> float:
    with torch.no_grad():
        ((images, labels),) = batches
        return accuracy(model(images), labels)


def test_the_splits_share_no_image_and_are_balanced() -> None:
    train, validation, test = digits.splits()
    sizes = [len(split.labels) for split in (train, validation, test)]
    assert sizes == [797, 500, 500]
    for split in (train, validation, test):
        share = torch.bincount(split.labels).float() / len(split.labels)
        assert share.min() > 0.09
        assert share.max() < 0.11
    everything = torch.cat([split.images for split in (train, validation, test)])
    assert len(everything.flatten(1).unique(dim=0)) == 1797


def test_the_splits_are_the_same_each_time() -> None:
    for one, other in zip(digits.splits(), digits.splits(), strict=True):
        assert torch.equal(one.images, other.images)
        assert torch.equal(one.labels, other.labels)


def test_training_is_deterministic_and_cached(monkeypatch: pytest.MonkeyPatch) -> None:
    first = digits.trained(QUICK)
    assert same(first, net.train_digits(digits.splits()[0], QUICK))
    assert not first.training
    forget()
    monkeypatch.setattr(net, "train_digits", None)
    assert same(first, digits.trained(QUICK))
    assert [path.name for path in digits.cache_path(QUICK).parent.iterdir()] == [digits.cache_path(QUICK).name]


@pytest.mark.parametrize("damage", ["cut short", "changed", "empty", "another network"])
def test_a_damaged_cache_is_trained_anew(damage: str) -> None:
    first = digits.trained(QUICK)
    path = digits.cache_path(QUICK)
    content = path.read_bytes()
    if damage == "another network":
        save_file({name: tensor + 1 for name, tensor in load_file(path).items()}, path)
    else:
        flipped = content[:-1] + bytes([content[-1] ^ 1])
        path.write_bytes({"cut short": content[:-5], "empty": b"", "changed": flipped}[damage])
    forget()
    assert same(first, digits.trained(QUICK))
    assert path.read_bytes() == content


def test_another_training_has_another_file() -> None:
    assert digits.cache_path(QUICK) != digits.cache_path(net.Training(widths=(4, 8), epochs=2))


def test_a_cache_that_cannot_be_written_is_no_obstacle(tmp_path: Path) -> None:
    (tmp_path / "autoprune").write_text("a file where the folder should be")
    assert isinstance(digits.trained(QUICK), torch.nn.Module)


@pytest.mark.slow
def test_the_task_is_accurate_and_complete() -> None:
    task = load_task("digits")
    facts = check_task(task)
    assert facts.notes == ()
    assert facts.metric == score(task.model(), task.validation) >= 0.97
    assert score(task.model(), task.test) >= 0.97
    assert fingerprint(task) == fingerprint(load_task("digits"))


def test_batches_shift_flip_and_reshuffle() -> None:
    torch.manual_seed(0)  # of 32 images none may show one of the places: once in a hundred runs
    images = torch.zeros(40, 1, 5, 5, dtype=torch.uint8)
    images[:, 0, 2, 1] = torch.arange(1, 41)  # one pixel left of the middle
    labels = torch.arange(1, 41)
    data = ImageBatches(images, labels, batch=16, mean=(0.0,), std=(1.0,), shift=1, flip=True)
    batches = list(data)
    assert len(batches) == len(data) == 2
    seen = torch.cat([batch for batch, _ in batches])
    order = torch.cat([label for _, label in batches])
    assert len(order.unique()) == 32
    assert not torch.equal(order, order.sort().values)
    assert torch.equal(seen.amax(dim=(1, 2, 3)), order.float())  # every image keeps its label and its pixel
    rows, columns = (seen.sum(dim=(1, dim)).argmax(dim=1) for dim in (3, 2))
    assert set(rows.tolist()) == {1, 2, 3}
    assert set(columns.tolist()) == {0, 1, 2, 3, 4}
    again = [torch.cat([label for _, label in data]) for _ in range(2)]
    assert not torch.equal(*again)


def test_batches_without_augmentation_are_all_and_in_order() -> None:
    images = torch.full((5, 2, 3, 3), 6, dtype=torch.uint8)
    images[:, 1] = 9
    data = ImageBatches(images, torch.arange(5), batch=2, mean=(2.0, 3.0), std=(4.0, 2.0))
    assert len(data) == 3
    assert torch.cat([label for _, label in data]).tolist() == [0, 1, 2, 3, 4]
    first, _ = next(iter(data))
    assert first[:, 0].unique().tolist() == [1.0]
    assert first[:, 1].unique().tolist() == [3.0]
