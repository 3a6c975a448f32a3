"""Models and data that several test files use."""

import os
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from autoprune.tasks.nets import resnet_cifar

MEAN = torch.tensor((0.485, 0.456, 0.406)).view(3, 1, 1)
STD = torch.tensor((0.229, 0.224, 0.225)).view(3, 1, 1)


def cifar_resnet(depth: int, *, pretrained: bool = False) -> nn.Module:
    """The CIFAR ResNet of that depth (20, 32, 44, 56, 110) in evaluation mode; ``pretrained`` exists for 20 and 56."""
    model = resnet_cifar.cifar_resnet(depth)
    if pretrained:
        from safetensors.torch import load_file

        model.load_state_dict(load_file(shared_file(f"data/models/cifar10_resnet{depth}.safetensors")))
    return model.eval()


def cifar10(split: str, samples: int | None = None) -> tuple[Tensor, Tensor]:
    """The first samples of ``train`` or ``val``: images float32 (N, 3, 32, 32), normalised; labels int64 (N,)."""
    import numpy as np

    with np.load(shared_file(f"data/cifar10/{split}.npz")) as arrays:
        images = torch.from_numpy(arrays["images"][:samples]).permute(0, 3, 1, 2).float() / 255
        labels = torch.from_numpy(arrays["labels"][:samples]).long()
    return (images - MEAN) / STD, labels


def shared_file(name: str) -> Path:
    """A file of the shared data (``AUTOPRUNE_SHARED``, or ``shared`` beside the checkout), or skip."""
    root = os.environ.get("AUTOPRUNE_SHARED") or Path(__file__).resolve().parents[2] / "shared"
    path = Path(root) / name
    if not path.exists():
        pytest.skip(f"needs {name} in the folder that AUTOPRUNE_SHARED names")
    return path
