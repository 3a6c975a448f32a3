"""A small digits classifier with BatchNorm, trained once."""

from dataclasses import dataclass

import pytest
import torch
from sklearn.datasets import load_digits
from torch import Tensor, nn
from torch.nn import functional

from autoprune.graph.model import PrunableGraph
from autoprune.recipe import Keep, Recipe
from autoprune.task import Task


class DigitsNet(nn.Module):
    """(N, 1, 8, 8) -> (N, 10)."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(1, 16, 3, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(16)
        self.conv2 = nn.Conv2d(16, 32, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(32)
        self.linear = nn.Linear(32, 10)

    def forward(self, x: Tensor) -> Tensor:
        x = functional.max_pool2d(functional.relu(self.bn1(self.conv1(x))), 2)
        return self.linear(functional.relu(self.bn2(self.conv2(x))).mean(dim=(2, 3)))


@dataclass(frozen=True)
class Digits:
    """The trained model as a graph, its task, and a held-out set."""

    graph: PrunableGraph
    task: Task
    images: Tensor
    labels: Tensor

    def accuracy(self, model: nn.Module) -> float:
        with torch.no_grad():
            return float((model.eval()(self.images).argmax(1) == self.labels).float().mean())

    def half(self, **fields: object) -> Recipe:
        """Half of every group's units."""
        return Recipe(choices={group.id: Keep(units=group.size // 2) for group in self.graph.groups}, **fields)


@pytest.fixture(scope="session")
def digits() -> Digits:
    torch.set_num_threads(1)
    torch.manual_seed(0)
    data = load_digits()
    images = torch.from_numpy(data.images).float().unsqueeze(1) / 16
    labels = torch.from_numpy(data.target).long()
    train = list(zip(images[:1280].split(64), labels[:1280].split(64), strict=True))
    model = DigitsNet()
    optimizer = torch.optim.Adam(model.parameters(), lr=0.01)
    for _ in range(12):
        for batch, targets in train:
            optimizer.zero_grad()
            functional.cross_entropy(model(batch), targets).backward()
            optimizer.step()
    examples = (images[:2].clone(),)
    graph = PrunableGraph.capture(model.eval(), examples, prove=False)
    return Digits(graph, Task("digits", lambda: model, examples, train, []), images[1280:], labels[1280:])


def task_of(inputs: Tensor, *, batch: int = 32) -> Task:
    """A task that trains on ``inputs`` alone."""
    targets = torch.zeros(len(inputs), dtype=torch.long)
    return Task(
        "tensors", nn.Identity, (inputs[:2],), list(zip(inputs.split(batch), targets.split(batch), strict=True)), []
    )


def linear_pair() -> nn.Module:
    """Two linear maps with a unit that the others make up for."""
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(6, 5), nn.Linear(5, 3))
    with torch.no_grad():  # unit 4 is a linear combination of units 0 and 2
        model[0].weight[4] = model[0].weight[0] - 2 * model[0].weight[2]
        model[0].bias[4] = 0.7
    return model
