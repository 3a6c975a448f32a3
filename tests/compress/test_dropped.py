"""Models in which a residual branch was dropped: what was added is nothing now, what was a factor stays its average."""

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from autoprune.compress import Saliencies, compress
from autoprune.errors import StageError
from autoprune.graph.model import PrunableGraph
from autoprune.recipe import Keep, Recipe
from autoprune.task import Task

INPUTS = torch.randn(64, 3, 6, 6, generator=torch.Generator().manual_seed(0))


class Residual(nn.Module):
    """A branch that ends in a BatchNorm, then a gate that ends in a bias, then a branch that ends in neither."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 6, 3)
        self.first = nn.Sequential(
            nn.Conv2d(6, 5, 3, padding=1, bias=False),
            nn.BatchNorm2d(5),
            nn.ReLU(),
            nn.Conv2d(5, 6, 3, padding=1, bias=False),
            nn.BatchNorm2d(6),
        )
        self.second = nn.Sequential(nn.Conv2d(6, 4, 1), nn.ReLU(), nn.Conv2d(4, 6, 1))
        self.third = nn.Sequential(nn.Linear(6, 7), nn.ReLU(), nn.Linear(7, 6, bias=False))
        self.head = nn.Linear(6, 3)

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        x = functional.relu(self.first(x) + x)
        x = (self.second(x).sigmoid() * x).flatten(2).transpose(1, 2)
        return self.head(self.third(x) + x)[:, 0]


@pytest.fixture(scope="module")
def model() -> nn.Module:
    torch.manual_seed(0)
    model = Residual()
    with torch.no_grad():
        for bn in (model.first[1], model.first[4]):
            bn.momentum = None  # the statistics of all that it sees
            for tensor in (bn.weight, bn.bias):
                nn.init.uniform_(tensor, 0.5, 1.5)
        model.train()(INPUTS)
    return model.eval()


@pytest.fixture(scope="module")
def graph(model: nn.Module) -> PrunableGraph:
    return PrunableGraph.capture(model, (INPUTS[:2],))


def task_of(inputs: Tensor) -> Task:
    targets = torch.zeros(len(inputs), dtype=torch.long)
    return Task("residual", nn.Identity, (inputs[:2],), list(zip(inputs.split(32), targets.split(32), strict=True)), [])


def recovered(graph: PrunableGraph, units: dict[str, int], *methods: str, epochs: float = 0.0) -> nn.Module:
    recipe = Recipe(choices={name: Keep(units=n) for name, n in units.items()}, recover=methods, epochs=epochs)
    return compress(graph, recipe, task=task_of(INPUTS), saliencies=Saliencies(graph, task_of(INPUTS)))


def normed(cut: nn.Module) -> Tensor:
    """What is left of the first branch."""
    weight, bias = (cut.get_parameter(f"first.4.{name}") for name in ("weight", "bias"))
    mean, variance = (cut.get_buffer(f"first.4.running_{name}") for name in ("mean", "var"))
    return (bias - mean * weight / (variance + 1e-5).sqrt()).detach()


def test_every_branch_can_be_dropped(graph: PrunableGraph) -> None:
    assert {group.id for group in graph.groups if group.droppable} == {"first.0", "second.0", "third.0"}


@pytest.mark.parametrize("methods", [(), ("lstsq",), ("bn",), ("lstsq", "bn"), ("finetune",), ("distil",)], ids=str)
def test_what_was_added_adds_nothing_and_stays_so(graph: PrunableGraph, methods: tuple[str, ...]) -> None:
    trains = bool({"finetune", "distil"} & {*methods})
    cut = recovered(graph, {"first.0": 0, "third.0": 0}, *methods, epochs=2.0 if trains else 0.0)
    assert torch.equal(normed(cut), torch.zeros(6))
    with torch.no_grad():
        x = functional.relu(functional.conv2d(INPUTS, *(cut.get_parameter(f"stem.{n}") for n in ("weight", "bias"))))
        layers = [[cut.get_parameter(f"second.{n}.{what}") for what in ("weight", "bias")] for n in (0, 2)]
        gate = functional.conv2d(functional.conv2d(x, *layers[0]).relu(), *layers[1]).sigmoid()
        head = [cut.get_parameter(f"head.{what}") for what in ("weight", "bias")]
        expected = functional.linear((gate * x)[:, :, 0, 0], *head)
    assert torch.allclose(cut.eval()(INPUTS), expected, atol=1e-5)


def test_a_bias_holds_the_mean_of_a_factor(model: nn.Module, graph: PrunableGraph) -> None:
    cut = recovered(graph, {"second.0": 0}, "lstsq")
    assert torch.allclose(cut.get_parameter("second.2.bias"), mean_gate(model), atol=1e-4)
    assert "second.2.weight" not in cut.state_dict()


def mean_gate(model: nn.Module) -> Tensor:
    """What the gate is before its sigmoid, on average."""
    with torch.no_grad():
        x = model.stem(INPUTS)
        return model.second(functional.relu(model.first(x) + x)).mean((0, 2, 3))


def test_the_mean_is_of_the_units_that_remain(model: nn.Module, graph: PrunableGraph) -> None:
    saliencies = Saliencies(graph, task_of(INPUTS))
    saliencies.of("l2")["stem"].copy_(torch.tensor([0.0, 1, 0, 1, 0, 1]))
    recipe = Recipe(choices={"second.0": Keep(units=0), "stem": Keep(units=3)}, recover=("lstsq",))
    cut = compress(graph, recipe, task=task_of(INPUTS), saliencies=saliencies)
    assert torch.allclose(cut.get_parameter("second.2.bias"), mean_gate(model)[[1, 3, 5]], atol=1e-4)


def test_where_the_mean_has_nowhere_to_stay_the_layers_behind_answer_for_it(graph: PrunableGraph) -> None:
    before, after = recovered(graph, {"third.0": 0}), recovered(graph, {"third.0": 0}, "lstsq")
    with torch.no_grad():
        dense = graph.module().eval()(INPUTS)
        assert (after(INPUTS) - dense).square().mean() < 0.9 * (before(INPUTS) - dense).square().mean()


@pytest.mark.parametrize("method", ["finetune", "distil"])
def test_what_is_left_is_trained(graph: PrunableGraph, method: str) -> None:
    units = {"first.0": 0, "second.0": 0, "third.0": 0}
    before, after = recovered(graph, units), recovered(graph, units, method, epochs=2)
    for name in ("second.2.bias", "stem.weight"):
        assert not torch.equal(before.get_parameter(name), after.get_parameter(name))


def test_activations_that_are_not_finite_are_told(graph: PrunableGraph) -> None:
    broken = task_of(torch.full_like(INPUTS, torch.nan))
    recipe = Recipe(choices={"second.0": Keep(units=0)}, recover=("lstsq",))
    with pytest.raises(StageError, match="not finite"):
        compress(graph, recipe, task=broken, saliencies=Saliencies(graph, broken))
