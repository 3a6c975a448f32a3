"""scikit-learn's handwritten digits: real data, no download, a network trained in seconds."""

from __future__ import annotations

import hashlib
import json
import os
import tempfile
from contextlib import suppress
from dataclasses import asdict
from functools import cache, partial
from pathlib import Path
from typing import TYPE_CHECKING

from autoprune.task import Task

if TYPE_CHECKING:
    from torch import Tensor

    from autoprune.tasks._images import ImageBatches
    from autoprune.tasks.nets.digits import DigitsNet, Training

HELD_OUT, BATCH, SPLIT_SEED = 500, 32, 0


def task() -> Task:
    """Handwritten digits, 8x8 pixels (from scikit-learn), with a residual network that is trained on first use.

    1,797 real images in stratified splits that share none: 797 to train, 500 to validate, 500 to test.
    The dense network gets 99.4 % of the validation and 99.0 % of the test images right (one image is 0.2 points).
    """
    from autoprune.tasks.nets.digits import Training

    train, validation, test = splits()
    images, _ = next(iter(validation))
    return Task(
        name="digits",
        model=partial(trained, Training()),
        example_inputs=(images[:1],),
        train=train,
        validation=validation,
        test=test,
    )


def splits() -> tuple[ImageBatches, ImageBatches, ImageBatches]:
    """Training (shifted by up to one pixel), validation and test batches; the same in every process."""
    import torch
    from sklearn.datasets import load_digits
    from sklearn.model_selection import train_test_split

    from autoprune.tasks._images import ImageBatches

    data = load_digits()
    rest, test = train_test_split(
        range(len(data.target)), test_size=HELD_OUT, stratify=data.target, random_state=SPLIT_SEED
    )
    train, validation = train_test_split(rest, test_size=HELD_OUT, stratify=data.target[rest], random_state=SPLIT_SEED)

    def batches(index: list[int], batch: int, shift: int) -> ImageBatches:
        images = torch.from_numpy(data.images[index]).to(torch.uint8).unsqueeze(1)  # pixels are 0 to 16
        labels = torch.from_numpy(data.target[index]).long()
        return ImageBatches(images, labels, batch=batch, mean=(4.9,), std=(6.0,), shift=shift)

    return batches(train, BATCH, 1), batches(validation, HELD_OUT, 0), batches(test, HELD_OUT, 0)


def trained(training: Training) -> DigitsNet:
    """The trained network in evaluation mode; trained once per user account, then read from a cache folder."""
    from autoprune.tasks.nets.digits import DigitsNet

    model = DigitsNet(training.widths)
    model.load_state_dict(_weights(training))
    return model.eval()


@cache
def _weights(training: Training) -> dict[str, Tensor]:
    """From the cache, or trained anew where that has none, a damaged one, or one of another network."""
    from autoprune.tasks.nets.digits import train_digits

    path = cache_path(training)
    weights = _read(path)
    if weights is None:
        weights = train_digits(splits()[0], training).state_dict()
        with suppress(OSError):  # a cache that cannot be written costs time, not correctness
            _write(path, weights)
    return weights


def cache_path(training: Training) -> Path:
    """The file in the user's cache folder for the weights of exactly this training."""
    from platformdirs import user_cache_path

    key = hashlib.sha256(json.dumps(asdict(training), sort_keys=True).encode()).hexdigest()[:16]
    return user_cache_path("autoprune") / f"digits-{key}.safetensors"


def _read(path: Path) -> dict[str, Tensor] | None:
    from safetensors import SafetensorError, safe_open

    from autoprune.tasks._fingerprint import digest_tensors

    try:
        with safe_open(path, framework="pt") as file:
            weights = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - not a mapping
            intact = (file.metadata() or {}).get("digest") == digest_tensors(weights)
    except (OSError, SafetensorError):
        return None
    return weights if intact else None


def _write(path: Path, weights: dict[str, Tensor]) -> None:
    """Atomically: another process sees the whole file or none."""
    from safetensors.torch import save_file

    from autoprune.tasks._fingerprint import digest_tensors

    path.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=path.parent) as folder:
        draft = Path(folder) / path.name
        save_file(weights, draft, metadata={"digest": digest_tensors(weights)})
        os.replace(draft, path)
