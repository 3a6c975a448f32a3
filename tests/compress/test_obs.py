"""Optimal Brain Surgeon against brute force."""

import itertools

import pytest
import torch
from torch import Tensor, nn

from autoprune.compress import criterion
from autoprune.compress.criteria.obs import OptimalBrainSurgeon, Reader, remove_all
from autoprune.compress.criteria.obs_l2 import ranks
from autoprune.graph.model import PrunableGraph
from autoprune.task import Task


def random_reader(seed: int, *, units: int, width: int, others: int = 0) -> tuple[Reader, Tensor, Tensor]:
    """A reader, its matrix and its Hessian."""
    generator = torch.Generator().manual_seed(seed)
    columns = units * width + others
    x = torch.randn(3 * columns, columns, dtype=torch.float64, generator=generator)
    x = x @ torch.randn(columns, columns, dtype=torch.float64, generator=generator)  # correlated
    matrix = torch.randn(3, columns, dtype=torch.float64, generator=generator)
    hessian = x.T @ x
    return Reader(matrix.clone(), hessian.inverse(), width, units), matrix, hessian


def refitted(matrix: Tensor, hessian: Tensor, gone: list[int]) -> Tensor:
    """The matrix of least error with these columns zero, by the normal equations."""
    left = [column for column in range(len(hessian)) if column not in gone]
    best = torch.zeros_like(matrix)
    best[:, left] = torch.linalg.solve(hessian[left][:, left], hessian[left] @ matrix.T).T
    return best


def error(matrix: Tensor, hessian: Tensor, gone: list[int]) -> float:
    change = matrix - refitted(matrix, hessian, gone)
    return float(((change @ hessian) * change).sum())


def columns_of(units: list[int], width: int) -> list[int]:
    return [unit * width + place for unit in units for place in range(width)]


@pytest.mark.parametrize(("width", "others"), [(1, 0), (3, 0), (2, 3)])
def test_every_choice_is_the_least_error_of_all(width: int, others: int) -> None:
    reader, matrix, hessian = random_reader(0, units=5, width=width, others=others)
    scores = remove_all([reader])
    gone: list[int] = []
    for unit in scores.argsort().tolist():
        left = [other for other in range(5) if other not in gone]
        errors = {other: error(matrix, hessian, columns_of([*gone, other], width)) for other in left}
        assert unit == min(errors, key=errors.__getitem__)
        assert scores[unit].item() == pytest.approx(errors[unit])
        gone.append(unit)


def test_the_update_is_the_least_squares_refit() -> None:
    reader, matrix, hessian = random_reader(1, units=4, width=2, others=1)
    reader.remove(2)
    reader.remove(0)
    gone = columns_of([0, 2], 2)
    left = [column for column in range(9) if column not in gone]
    assert torch.allclose(reader.matrix, refitted(matrix, hessian, gone)[:, left])
    assert torch.allclose(reader.inverse, hessian[left][:, left].inverse())


def test_the_errors_of_all_readers_add() -> None:
    first, second = random_reader(2, units=4, width=1), random_reader(3, units=4, width=3)
    scores = remove_all([first[0], second[0]])
    gone: list[int] = []
    for unit in scores.argsort().tolist():
        gone.append(unit)
        expected = error(*first[1:], columns_of(gone, 1)) + error(*second[1:], columns_of(gone, 3))
        assert scores[unit].item() == pytest.approx(expected)


def data(inputs: Tensor) -> Task:
    targets = torch.zeros(len(inputs), dtype=torch.long)
    return Task("data", nn.Identity, (inputs[:2],), list(zip(inputs.split(32), targets.split(32), strict=True)), [])


def score(model: nn.Module, inputs: Tensor) -> list[Tensor]:
    graph = PrunableGraph.capture(model.eval(), (inputs[:2],), prove=False)
    scores = criterion("obs").score(graph, data(inputs), seed=0)
    assert list(scores) == [group.id for group in graph.groups]
    return list(scores.values())


@pytest.mark.parametrize("kind", ["linear", "convolution"])
def test_one_of_two_twins_goes_first_and_costs_nothing(kind: str) -> None:
    torch.manual_seed(0)
    model, inputs = {
        "linear": (nn.Sequential(nn.Linear(6, 5), nn.ReLU(), nn.Linear(5, 3)), torch.randn(400, 6)),
        "convolution": (
            nn.Sequential(nn.Conv2d(3, 5, 3), nn.ReLU(), nn.Conv2d(5, 4, 3, bias=False), nn.BatchNorm2d(4)),
            torch.randn(40, 3, 9, 9),
        ),
    }[kind]
    with torch.no_grad():  # unit 3 has the greatest norms of all, and is three times unit 1
        model[0].weight[3], model[0].bias[3] = 3 * model[0].weight[1], 3 * model[0].bias[1]
        model[2].weight[:, 3] *= 2
    (scores,) = score(model, inputs)
    first, second = scores.argsort()[:2].tolist()
    assert first in (1, 3)
    assert second not in (1, 3)
    assert scores[first] < 1e-3 < 5e-3 < scores[second]


def test_all_units_together_are_all_of_the_variance() -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(6, 5), nn.ReLU(), nn.Linear(5, 3))
    with torch.no_grad():
        model[2].weight *= 100
    (scores,) = score(model, torch.randn(400, 6))
    assert scores.max().item() == pytest.approx(1, abs=0.01)


def test_a_mean_that_the_bias_can_take_over_costs_nothing() -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(6, 4), nn.Sigmoid(), nn.Linear(4, 3))
    with torch.no_grad():
        model[0].bias[2] = 20.0  # a constant one
        model[2].weight[:, 2] = 50.0
    (scores,) = score(model, torch.randn(400, 6))
    assert scores.argmin() == 2
    assert scores[2] < 1e-4


class Two(nn.Module):
    """A hidden layer that a linear layer and a recurrent one read, and a recurrent one that a linear one reads."""

    def __init__(self) -> None:
        super().__init__()
        self.hidden = nn.Linear(4, 6)
        self.rnn = nn.GRU(6, 5, batch_first=True)
        self.head = nn.Linear(5, 2)

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.head(self.rnn(torch.relu(self.hidden(x)))[0])
        return y


def test_what_no_matrix_product_reads_is_ranked_by_l2() -> None:
    torch.manual_seed(0)
    inputs = torch.randn(64, 7, 4)
    graph = PrunableGraph.capture(Two().eval(), (inputs[:2],), prove=False)
    assert len(graph.groups) == 2
    mine, norms = (criterion(name).score(graph, data(inputs), seed=0) for name in ("obs", "l2"))
    for group in graph.groups:
        assert torch.equal(mine[group.id], norms[group.id])


def test_too_wide_a_layer_is_ranked_by_l2() -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(4, 6), nn.ReLU(), nn.Linear(6, 3))
    inputs = torch.randn(64, 4)
    graph = PrunableGraph.capture(model.eval(), (inputs[:2],), prove=False)
    (narrow,) = OptimalBrainSurgeon(columns=5).score(graph, data(inputs), seed=0).values()
    (norms,) = criterion("l2").score(graph, data(inputs), seed=0).values()
    assert torch.equal(narrow, norms)


def test_the_same_data_give_the_same_scores() -> None:
    model = nn.Sequential(nn.Linear(4, 6), nn.ReLU(), nn.Linear(6, 3))
    inputs = torch.randn(300, 4)
    runs = []
    for noise in (1, 2):
        torch.manual_seed(noise)
        runs.append(score(model, inputs))
        assert torch.initial_seed() == noise
    assert all(torch.equal(*pair) for pair in itertools.zip_longest(*runs))


def test_ranks_by_both_criteria_add() -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(4, 6), nn.ReLU(), nn.Linear(6, 3))
    inputs = torch.randn(300, 4)
    graph = PrunableGraph.capture(model.eval(), (inputs[:2],), prove=False)
    (both,), *parts = (
        [scores.tolist() for scores in criterion(name).score(graph, data(inputs), seed=0).values()]
        for name in ("obs_l2", "obs", "l2")
    )
    obs, l2 = (sorted(part).index for (part,) in parts)
    assert both == [obs(first) + l2(second) for (first, second) in zip(parts[0][0], parts[1][0], strict=True)]
    assert len(set(both)) > 2


def test_a_rank_of_what_is_no_number_is_none() -> None:
    assert ranks(torch.tensor([2.0, 1.0, 2.0])).tolist() == [1, 0, 2]
    assert ranks(torch.tensor([2.0, torch.nan])).isnan().tolist() == [False, True]


def test_activations_that_are_not_finite_give_no_number() -> None:
    inputs = torch.randn(64, 4)
    inputs[3] = torch.inf
    (scores,) = score(nn.Sequential(nn.Linear(4, 6), nn.ReLU(), nn.Linear(6, 3)), inputs)
    assert scores.isnan().all()
