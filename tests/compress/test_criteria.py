"""Criteria against hand-worked cases; the registry."""

import math
from importlib.metadata import EntryPoint

import pytest
import torch
from torch import Tensor, nn

from autoprune.compress import criteria, criterion
from autoprune.compress.criteria import _base
from autoprune.compress.criteria.taylor import Taylor
from autoprune.errors import UsageError
from autoprune.graph.model import PrunableGraph
from autoprune.task import Task


@pytest.fixture
def perceptron() -> tuple[PrunableGraph, Task]:
    """Two inputs, three hidden units with ReLU, one output; the loss is the mean output."""
    model = nn.Sequential(nn.Linear(2, 3), nn.ReLU(), nn.Linear(3, 1))
    with torch.no_grad():
        model[0].weight.copy_(torch.tensor([[1.0, 2.0], [-3.0, 0.0], [0.5, 0.5]]))
        model[0].bias.copy_(torch.tensor([0.0, 1.0, -1.0]))
        model[2].weight.copy_(torch.tensor([[2.0, -1.0, 4.0]]))
        model[2].bias.zero_()
    first, second = torch.tensor([[1.0, 1.0]]), torch.tensor([[2.0, 2.0]])
    task = Task(
        "perceptron",
        lambda: model,
        (torch.zeros(2, 2),),
        [(first, torch.zeros(1)), (second, torch.zeros(1))],
        [],
        loss=lambda outputs, targets: outputs.mean(),
    )
    return PrunableGraph.capture(model.eval(), task.example_inputs, prove=False), task


def scores(name: str, perceptron: tuple[PrunableGraph, Task], *, seed: int = 0) -> Tensor:
    graph, task = perceptron
    (group,) = graph.groups
    return criterion(name).score(graph, task, seed=seed)[group.id]


def test_l1_sums_absolute_weights_over_all_members(perceptron: tuple[PrunableGraph, Task]) -> None:
    assert scores("l1", perceptron).tolist() == pytest.approx([3 + 2, 3 + 1, 1 + 4])


def test_l2_is_the_norm_over_all_members(perceptron: tuple[PrunableGraph, Task]) -> None:
    assert scores("l2", perceptron).tolist() == pytest.approx([math.sqrt(s) for s in (5 + 4, 9 + 1, 0.5 + 16)])


def test_taylor_squares_the_sum_per_batch(perceptron: tuple[PrunableGraph, Task]) -> None:
    # a unit's output is v * relu(w.x + b); each of the two layers contributes v * h to the sum of g * w
    graph, task = perceptron
    (group,) = graph.groups
    hidden = torch.tensor([[3.0, 0.0, 0.0], [6.0, 0.0, 1.0]])
    expected = (2 * hidden * torch.tensor([2.0, -1.0, 4.0])).square().mean(0)
    assert torch.allclose(Taylor(batch=1).score(graph, task, seed=0)[group.id], expected.double())


def test_taylor_leaves_no_gradient_and_reads_a_bounded_part(perceptron: tuple[PrunableGraph, Task]) -> None:
    graph, task = perceptron
    (group,) = graph.groups
    first = Taylor(batch=1, samples=1).score(graph, task, seed=0)[group.id]
    assert first.tolist() == pytest.approx([144.0, 0.0, 0.0])


def test_random_is_seeded_by_group_alone(perceptron: tuple[PrunableGraph, Task]) -> None:
    torch.manual_seed(1)
    first = scores("random", perceptron)
    torch.manual_seed(2)
    assert torch.equal(first, scores("random", perceptron))
    assert not torch.equal(first, scores("random", perceptron, seed=1))
    deep = nn.Sequential(nn.Linear(2, 3), nn.ReLU(), nn.Linear(3, 3), nn.ReLU(), nn.Linear(3, 1)).eval()
    graph = PrunableGraph.capture(deep, (torch.zeros(2, 2),), prove=False)
    both = criterion("random").score(graph, perceptron[1], seed=0)
    assert torch.equal(both.pop(perceptron[0].groups[0].id), first)
    (other,) = both.values()
    assert not torch.equal(other, first)


def test_every_criterion_is_described() -> None:
    assert [entry.name for entry in criteria()] == ["l1", "l2", "obs", "obs_l2", "random", "taylor"]
    assert all(entry.description and "\n" not in entry.description for entry in criteria())
    assert [entry.name for entry in criteria() if entry.needs_data] == ["obs", "obs_l2", "taylor"]


def test_an_unknown_criterion_lists_the_known_ones() -> None:
    with pytest.raises(UsageError, match=r"Unknown criterion 'l3': known are l1, l2, obs, obs_l2, random, taylor\."):
        criterion("l3")


class Plugin:
    """A criterion as another distribution would bring it."""

    name = "l2"
    description = "a second l2"
    needs_data = False


MINE = Plugin()


def install(monkeypatch: pytest.MonkeyPatch, name: str, value: str) -> None:
    entry = EntryPoint(name, value, _base.ENTRY_POINTS)
    monkeypatch.setattr("importlib.metadata.entry_points", lambda group: [entry] if group == entry.group else [])
    monkeypatch.setattr(_base, "_known", _base._known.__wrapped__)


def test_a_plugin_is_found_by_its_entry_point(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(MINE, "name", "mine", raising=False)
    install(monkeypatch, "mine", f"{__name__}:MINE")
    assert criterion("mine") is MINE


def test_two_criteria_of_one_name_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    install(monkeypatch, "l2", f"{__name__}:MINE")
    with pytest.raises(UsageError, match=r"Two criteria are called 'l2': autoprune.*l2:CRITERION and tests"):
        criteria()


def test_a_plugin_that_cannot_be_loaded_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    install(monkeypatch, "mine", "no_such_package:MINE")
    with pytest.raises(UsageError, match=r"'mine' of autoprune\.criteria \(no_such_package:MINE\) cannot be loaded"):
        criteria()
