"""A task that is searched in seconds; also the file that tests give to ``--task``."""

from functools import cache

import torch
from sklearn.datasets import load_digits
from torch import Tensor, nn

from autoprune import Task


class Net(nn.Module):
    """Two convolutions and a classifier for 8x8 images."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(1, 32, 3, padding=1)
        self.bn1 = nn.BatchNorm2d(32)
        self.conv2 = nn.Conv2d(32, 32, 3, stride=2, padding=1)
        self.linear = nn.Linear(32 * 16, 10)

    def forward(self, x: Tensor) -> Tensor:
        x = torch.relu(self.bn1(self.conv1(x)))
        return self.linear(torch.relu(self.conv2(x)).flatten(1))


@cache
def weights() -> dict[str, Tensor]:
    """Of a network trained for a moment."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        net = Net()
        optimizer = torch.optim.Adam(net.parameters(), lr=0.01)
        for images, labels in batches(0, 512):
            optimizer.zero_grad()
            nn.functional.cross_entropy(net(images), labels).backward()
            optimizer.step()
    return net.state_dict()


def model() -> nn.Module:
    """The trained network."""
    net = Net()
    net.load_state_dict(weights())
    return net.eval()


def batches(begin: int, end: int) -> list[tuple[Tensor, Tensor]]:
    """Some of scikit-learn's digits, in batches of 32."""
    digits = load_digits()
    images = torch.tensor(digits.images[begin:end]).float().unsqueeze(1) / 16
    return list(zip(images.split(32), torch.tensor(digits.target[begin:end]).split(32), strict=True))


def task() -> Task:
    """The task."""
    return Task("small", model, (torch.zeros(2, 1, 8, 8),), batches(0, 512), batches(512, 768), batches(768, 1024))


def without_test() -> Task:
    """The same without a test split."""
    return Task("small", model, (torch.zeros(2, 1, 8, 8),), batches(0, 512), batches(512, 768))
