"""Models and data that several test files use."""

import os
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

MEAN = torch.tensor((0.485, 0.456, 0.406)).view(3, 1, 1)
STD = torch.tensor((0.229, 0.224, 0.225)).view(3, 1, 1)


class BasicBlock(nn.Module):
    """Two 3x3 convolutions beside a shortcut that subsamples and pads with zeros (option A of He et al. 2015)."""

    def __init__(self, inputs: int, outputs: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(inputs, outputs, 3, stride=stride, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(outputs)
        self.conv2 = nn.Conv2d(outputs, outputs, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(outputs)
        self.pad = (outputs - inputs) // 2

    def forward(self, x: Tensor) -> Tensor:
        shortcut = functional.pad(x[:, :, ::2, ::2], (0, 0, 0, 0, self.pad, self.pad)) if self.pad else x
        y = functional.relu(self.bn1(self.conv1(x)))
        return functional.relu(self.bn2(self.conv2(y)) + shortcut)


class CifarResNet(nn.Module):
    """The CIFAR ResNet of He et al. 2015, section 4.2: (N, 3, 32, 32) -> (N, 10)."""

    def __init__(self, blocks: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, 16, 3, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(16)
        self.layer1 = self._stage(16, 16, blocks)
        self.layer2 = self._stage(16, 32, blocks)
        self.layer3 = self._stage(32, 64, blocks)
        self.linear = nn.Linear(64, 10)

    @staticmethod
    def _stage(inputs: int, outputs: int, blocks: int) -> nn.Sequential:
        first = BasicBlock(inputs, outputs, stride=1 if inputs == outputs else 2)
        return nn.Sequential(first, *(BasicBlock(outputs, outputs, stride=1) for _ in range(blocks - 1)))

    def forward(self, x: Tensor) -> Tensor:
        x = functional.relu(self.bn1(self.conv1(x)))
        x = self.layer3(self.layer2(self.layer1(x)))
        return self.linear(x.mean(dim=(2, 3)))


def cifar_resnet(depth: int, *, pretrained: bool = False) -> CifarResNet:
    """The CIFAR ResNet of that depth (20, 32, 44, 56, 110) in evaluation mode; ``pretrained`` exists for 20 and 56."""
    model = CifarResNet((depth - 2) // 6)
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
