"""A residual network for the 8x8 digits, wide enough to be worth pruning, and its training."""

import math
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional

from autoprune.compress.batches import seeded
from autoprune.tasks._images import ImageBatches


@dataclass(frozen=True)
class Training:
    """Everything that decides the weights; a cached file is of use only where all of it is the same."""

    widths: tuple[int, int] = (64, 128)
    epochs: int = 6
    rate: float = 0.05
    momentum: float = 0.9
    weight_decay: float = 5e-4
    seed: int = 0
    revision: int = 2  # of the network, the training loop and the splits


class Block(nn.Module):
    """Two 3x3 convolutions beside a shortcut, which is a 1x1 convolution where the width changes."""

    def __init__(self, inputs: int, outputs: int, *, stride: int = 1) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(inputs, outputs, 3, stride=stride, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(outputs)
        self.conv2 = nn.Conv2d(outputs, outputs, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(outputs)
        self.shortcut = nn.Conv2d(inputs, outputs, 1, stride=stride, bias=False) if inputs != outputs else nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        """(N, inputs, H, W) -> (N, outputs, H / stride, W / stride)."""
        y: Tensor = functional.relu(self.bn1(self.conv1(x)))
        return functional.relu(self.bn2(self.conv2(y)) + self.shortcut(x))


class DigitsNet(nn.Module):
    """(N, 1, 8, 8) -> logits (N, 10)."""

    def __init__(self, widths: tuple[int, int]) -> None:
        super().__init__()
        low, high = widths
        self.stem = nn.Conv2d(1, low, 3, padding=1, bias=False)
        self.bn = nn.BatchNorm2d(low)
        self.block1 = Block(low, low)
        self.block2 = Block(low, high, stride=2)
        self.block3 = Block(high, high)
        self.classifier = nn.Linear(high, 10)

    def forward(self, x: Tensor) -> Tensor:
        """(N, 1, 8, 8) -> (N, 10)."""
        x = functional.relu(self.bn(self.stem(x)))
        x = self.block3(self.block2(self.block1(x)))
        logits: Tensor = self.classifier(x.mean(dim=(2, 3)))
        return logits


def train_digits(data: ImageBatches, training: Training) -> DigitsNet:
    """A network trained on ``data``: SGD with Nesterov momentum, the learning rate rises and falls linearly once."""
    with seeded(training.seed), torch.enable_grad():
        model = DigitsNet(training.widths)
        optimizer = torch.optim.SGD(
            model.parameters(),
            lr=training.rate,
            momentum=training.momentum,
            weight_decay=training.weight_decay,
            nesterov=True,
        )
        steps = training.epochs * len(data)
        for step in range(steps):
            if step % len(data) == 0:
                batches = iter(data)
            optimizer.param_groups[0]["lr"] = training.rate * _rise_and_fall((step + 1) / steps)
            images, labels = next(batches)
            loss = functional.cross_entropy(model(images), labels)
            optimizer.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            optimizer.step()
    return model.eval()


def _rise_and_fall(progress: float) -> float:
    """Up to 1 in the first quarter, then down along a cosine."""
    return progress * 4 if progress < 0.25 else (1 + math.cos(math.pi * (progress - 0.25) / 0.75)) / 2
