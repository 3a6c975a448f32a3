"""What the least-squares recovery promises, on small models."""

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from autoprune.compress import Reference, Saliencies, compress
from autoprune.compress.recover.lstsq import LeastSquares, solve
from autoprune.errors import StageError
from autoprune.graph.model import PrunableGraph
from autoprune.recipe import Recipe
from autoprune.task import Task
from tests.compress.conftest import Digits, linear_pair, task_of


def conv_pair() -> nn.Module:
    torch.manual_seed(0)
    model = nn.Sequential(
        nn.Conv2d(3, 5, 3, padding=1),
        nn.Conv2d(5, 4, 3, stride=2, padding=2, dilation=3, bias=False),
        nn.BatchNorm2d(4),
    )
    with torch.no_grad():
        model[0].weight[4] = model[0].weight[0] - 2 * model[0].weight[2]
        model[0].bias[4] = model[0].bias[0] - 2 * model[0].bias[2]
    return model


def conv1d_pair() -> nn.Module:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv1d(3, 5, 3), nn.Conv1d(5, 4, 4, padding="same"))
    with torch.no_grad():
        model[0].weight[4] = model[0].weight[0] - 2 * model[0].weight[2]
        model[0].bias[4] = model[0].bias[0] - 2 * model[0].bias[2]
    return model


@pytest.mark.parametrize(
    ("model", "shape"),
    [
        (linear_pair(), (200, 6)),
        (linear_pair(), (50, 7, 6)),
        (conv_pair(), (24, 3, 12, 10)),
        (conv1d_pair(), (40, 3, 20)),
    ],
    ids=["linear", "tokens", "conv2d", "conv1d"],
)
@pytest.mark.filterwarnings("ignore:Using padding='same' with even kernel:UserWarning")
def test_lstsq_is_exact_when_the_removed_unit_is_a_combination_of_the_kept(
    model: nn.Module, shape: tuple[int, ...]
) -> None:
    inputs = torch.randn(shape)
    graph = PrunableGraph.capture(model.eval(), (inputs[:2],), prove=False)
    cut = graph.cut({graph.groups[0].id: (0, 1, 2, 3)}).eval()
    dense = graph.module().eval()
    fresh = torch.randn(shape)
    assert not torch.allclose(cut(fresh), dense(fresh), atol=0.05)
    LeastSquares(damping=1e-9).recover(cut, Reference(dense), task_of(inputs), Recipe())
    assert torch.allclose(cut(fresh), dense(fresh), atol=1e-3)


def test_lstsq_aims_at_the_units_that_remain() -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(6, 5), nn.Linear(5, 4), nn.ReLU(), nn.Linear(4, 2))
    with torch.no_grad():
        model[0].weight[4], model[0].bias[4] = model[0].weight[0], model[0].bias[0]
    inputs = torch.randn(300, 6)
    graph = PrunableGraph.capture(model.eval(), (inputs[:2],), prove=False)
    keep = {graph.groups[0].id: (0, 1, 2, 3), graph.groups[1].id: (1, 3)}
    cut = graph.cut(keep).eval()
    rows = {"1.weight": torch.tensor([1, 3]), "1.bias": torch.tensor([1, 3])}
    LeastSquares(damping=1e-9).recover(cut, Reference(graph.module(), rows), task_of(inputs), Recipe())
    hidden = model[1](model[0](inputs))[:, [1, 3]]
    refitted = functional.linear(
        functional.linear(inputs, cut.get_parameter("0.weight"), cut.get_parameter("0.bias")),
        cut.get_parameter("1.weight"),
        cut.get_parameter("1.bias"),
    )
    assert torch.allclose(refitted, hidden, atol=1e-3)


class Residual(nn.Module):
    """Two residual blocks of linear maps: (N, 4, 5, 5) -> the same, or (N, 4) -> (N, 4)."""

    def __init__(self, *, convolutions: bool) -> None:
        super().__init__()
        maps = [(4, 4), (4, 4), (4, 9), (9, 4)]
        self.maps = nn.ModuleList(nn.Conv2d(*m, 1, bias=False) if convolutions else nn.Linear(*m) for m in maps)
        self.norms = nn.ModuleList(nn.BatchNorm2d(4) if convolutions else nn.Identity() for _ in range(2))
        for norm in self.norms if convolutions else ():
            nn.init.uniform_(norm.weight, -2, 2)
            nn.init.uniform_(norm.running_mean, -2, 2)
            nn.init.uniform_(norm.running_var, 0.5, 2)

    def forward(self, x: Tensor) -> Tensor:
        for first, second, norm in zip(self.maps[::2], self.maps[1::2], self.norms, strict=True):
            x = x + norm(second(first(x)))
        return x


@pytest.mark.parametrize("convolutions", [False, True], ids=["linear", "convolution"])
def test_lstsq_corrects_in_a_later_block_what_an_earlier_one_has_lost(convolutions: bool) -> None:
    torch.manual_seed(0)
    shape = (200, 4, 5, 5) if convolutions else (400, 4)
    inputs, fresh = torch.randn(shape), torch.randn(shape)
    graph = PrunableGraph.capture(Residual(convolutions=convolutions).eval(), (inputs[:2],), prove=False)
    first, second = (group.id for group in graph.groups if group.size != 4 or "maps.0" in group.id)
    dense = graph.module().eval()
    keep = {first: (0, 1, 3)}  # a direction of four is lost
    cut_inputs = LeastSquares(damping=1e-9, rows_per_input=10**6)
    early = graph.cut(keep).eval()
    cut_inputs.recover(early, Reference(dense), task_of(inputs), Recipe())
    assert not torch.allclose(early(fresh), dense(fresh), atol=0.1)
    both = graph.cut(keep | {second: tuple(range(8))}).eval()  # eight units still span all four directions
    cut_inputs.recover(both, Reference(dense, {"maps.2.weight": torch.arange(8)}), task_of(inputs), Recipe())
    assert torch.allclose(both(fresh), dense(fresh), atol=1e-3)


def test_lstsq_refits_layers_with_all_their_inputs_where_the_data_suffice() -> None:
    torch.manual_seed(0)
    inputs, fresh = torch.randn(400, 4), torch.randn(400, 4)
    graph = PrunableGraph.capture(Residual(convolutions=False).eval(), (inputs[:2],), prove=False)
    dense = graph.module().eval()
    keep = {next(group.id for group in graph.groups if "maps.0" in group.id): (0, 1, 3)}
    errors = []
    for rows_per_input in (10, 101):  # of 400 rows, for the 4 and 9 inputs of the second block
        cut = graph.cut(keep).eval()
        method = LeastSquares(damping=1e-9, rows_per_input=rows_per_input)
        method.recover(cut, Reference(dense), task_of(inputs), Recipe())
        untouched = [
            torch.equal(cut.get_parameter(f"maps.{i}.weight"), dense.get_parameter(f"maps.{i}.weight")) for i in (2, 3)
        ]
        assert untouched == [rows_per_input > 10] * 2
        errors.append((cut(fresh) - dense(fresh)).square().mean().item())
    assert errors[0] < 1e-6 < 1e-3 < errors[1]


def test_the_step_solves_the_damped_normal_equations() -> None:
    # x = (1, 2), error = (3, 5), no constant: step = (1*3 + 2*5) / (5 + 5 * damping)
    x, error = torch.tensor([[1.0], [2.0]]).double(), torch.tensor([[3.0], [5.0]]).double()
    step, constant = solve(x, error, damping=0.5, centred=False)
    assert step.item() == pytest.approx(13 / 7.5)
    assert constant.item() == 0.0
    step, constant = solve(x, error, damping=0.0, centred=True)
    assert (step.item(), constant.item()) == pytest.approx((2.0, 1.0))


def test_a_singular_system_has_the_smallest_step() -> None:
    x = torch.tensor([[1.0, 1.0], [2.0, 2.0]]).double()
    step, _ = solve(x, x.sum(1, keepdim=True), damping=0.0, centred=False)
    assert step.flatten().tolist() == pytest.approx([1.0, 1.0])
    step, _ = solve(torch.zeros(2, 2).double(), torch.ones(2, 1).double(), damping=1e-3, centred=False)
    assert step.flatten().tolist() == [0.0, 0.0]


def test_lstsq_refuses_activations_that_are_not_finite(digits: Digits) -> None:
    recipe = digits.half(recover=("lstsq",))
    graph = digits.graph
    broken = Task("nan", nn.Identity, graph.example_inputs, [(torch.full((4, 1, 8, 8), torch.nan), torch.zeros(4))], [])
    with pytest.raises(StageError, match="not finite") as error:
        compress(graph, recipe, task=broken, saliencies=Saliencies(graph, broken))
    assert error.value.kind == "not_finite"


def test_lstsq_looks_at_layers_that_it_leaves_alone() -> None:
    torch.manual_seed(0)
    net = nn.Sequential(nn.Linear(4, 6), nn.Linear(6, 4), nn.Linear(4, 2))
    with torch.no_grad():
        net[2].bias.fill_(torch.inf)
    inputs = torch.randn(40, 4)
    graph = PrunableGraph.capture(net.eval(), (inputs[:2],), prove=False)
    cut = graph.cut({graph.groups[0].id: (0, 1, 2)}).eval()
    cut_inputs = LeastSquares(rows_per_input=10**6)
    with pytest.raises(StageError, match=r"'2.weight' are not finite"):
        cut_inputs.recover(cut, Reference(graph.module()), task_of(inputs), Recipe())
