"""CIFAR-10 and the ResNets of He et al. 2015."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from autoprune.errors import TaskError
from autoprune.task import Task

if TYPE_CHECKING:
    from torch import Tensor

    from autoprune.tasks._cifar import Images
    from autoprune.tasks._images import ImageBatches
    from autoprune.tasks.nets.resnet_cifar import CifarResNet

DEPTHS = {"resnet20": 20, "resnet56": 56}
MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
BATCH, SCORING_BATCH = 128, 500
SHIFT = 4  # pixels, as He et al. 2015, section 4.2

GET_DATA = (
    "Task 'cifar10' needs the data: download the Python version of CIFAR-10 from Alex Krizhevsky's page "
    "(www.cs.toronto.edu/~kriz/cifar.html), unpack it, and give its folder: -o data=cifar-10-batches-py."
)
GET_WEIGHTS = (
    "Task 'cifar10' needs trained weights: a state dict of {model} as .safetensors, .pt or .th, such as "
    "those of github.com/akamaster/pytorch_resnet_cifar10, given as -o weights=FILE."
)


def task(
    *,
    data: Path | None = None,
    model: Literal["resnet20", "resnet56"] = "resnet20",
    weights: Path | None = None,
) -> Task:
    """CIFAR-10 with a ResNet of He et al. 2015; needs the data and trained weights.

    Args:
        data: folder with the original Python batches, or with ``train.npz`` and ``val.npz``.
        weights: state dict of the network.

    Raises:
        TaskError: data or weights are not given or cannot be used.
    """
    if data is None:
        raise TaskError(GET_DATA)
    if weights is None:
        raise TaskError(GET_WEIGHTS.format(model=model))
    from autoprune.tasks._cifar import read_cifar10

    network = partial(trained, DEPTHS[model], weights.resolve())
    network()  # weights that do not fit are told before the data is read
    splits = read_cifar10(data)
    validation = _batches(splits.validation, SCORING_BATCH)
    images, _ = next(iter(validation))
    return Task(
        name=f"cifar10-{model}",
        model=network,
        example_inputs=(images[:1],),
        train=_batches(splits.train, BATCH, shift=SHIFT, flip=True),
        validation=validation,
        test=_batches(splits.test, SCORING_BATCH) if splits.test else None,
    )


def _batches(images: Images, batch: int, *, shift: int = 0, flip: bool = False) -> ImageBatches:
    import torch

    from autoprune.tasks._images import ImageBatches

    pixels, labels = map(torch.from_numpy, images)
    mean, std = (tuple(255 * value for value in values) for values in (MEAN, STD))
    return ImageBatches(pixels, labels, batch=batch, mean=mean, std=std, shift=shift, flip=flip)


def trained(depth: int, weights: Path) -> CifarResNet:
    """The ResNet of that depth with the state dict in ``weights``, in evaluation mode.

    Raises:
        TaskError: the file cannot be read or is of another network.
    """
    from autoprune.tasks.nets.resnet_cifar import cifar_resnet

    model = cifar_resnet(depth)
    try:
        model.load_state_dict(_state_dict(weights))
    except RuntimeError as error:
        first = str(error).splitlines()[1:2] or [str(error)]
        raise TaskError(f"{weights}: does not fit resnet{depth}: {first[0].strip()[:300]}") from error
    return model.eval()


def _state_dict(path: Path) -> dict[str, Tensor]:
    """Names without the ``module.`` that DataParallel puts before them."""
    import torch
    from safetensors.torch import load_file

    try:
        if path.suffix == ".safetensors":
            state = load_file(path)
        else:
            state = torch.load(path, map_location="cpu", weights_only=True)
            state = state.get("state_dict", state)
    except Exception as error:  # a damaged file fails in any way it likes
        first = str(error).partition("\n")[0]
        raise TaskError(f"{path}: weights cannot be read: {first}") from error
    return {name.removeprefix("module."): tensor for name, tensor in state.items()}
