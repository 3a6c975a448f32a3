"""What each recovery promises, on small models."""

import copy
import math
from dataclasses import replace

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from autoprune.compress import Reference, Saliencies, compress, recoveries, recovery, select
from autoprune.compress.batches import take
from autoprune.compress.recover import _training, distil
from autoprune.compress.recover.bn import BatchNormReestimation, correct, observe
from autoprune.errors import PruneError, StageError, TaskError, UsageError
from autoprune.graph.model import PrunableGraph
from autoprune.recipe import RECOVERY_ORDER, Keep, Recipe
from autoprune.task import Task
from tests.compress.conftest import Digits, linear_pair, task_of


def state(model: nn.Module) -> dict[str, Tensor]:
    return {name: tensor.clone() for name, tensor in model.state_dict().items()}


def same(first: dict[str, Tensor], second: dict[str, Tensor]) -> bool:
    return all(torch.equal(tensor, second[name]) for name, tensor in first.items())


# BatchNorm


def test_bn_leaves_a_model_that_was_not_cut_alone(digits: Digits) -> None:
    model = digits.graph.module()
    before = state(model)
    BatchNormReestimation().recover(model, Reference(digits.graph.module()), digits.task, Recipe())
    assert all(
        torch.allclose(tensor, model.state_dict()[name], rtol=1e-4, atol=1e-6) for name, tensor in before.items()
    )


def test_bn_gives_the_true_statistics_where_the_dense_ones_are_true() -> None:
    torch.manual_seed(0)
    inputs = torch.randn(64, 3, 8, 8)
    model = nn.Sequential(
        nn.Conv2d(3, 6, 3),
        nn.BatchNorm2d(6, momentum=1.0),
        nn.ReLU(),
        nn.Conv2d(6, 4, 3),
        nn.BatchNorm2d(4, momentum=1.0),
    )
    model.train()(inputs)  # the running statistics are now those of the inputs
    graph = PrunableGraph.capture(model.eval(), (inputs[:2],), prove=False)
    keep = {graph.groups[0].id: (1, 2, 5)}
    cut = graph.cut(keep)
    rows = {name: torch.tensor([1, 2, 5]) for name in ("1.weight", "1.bias", "1.running_mean", "1.running_var")}
    BatchNormReestimation().recover(cut, Reference(graph.module(), rows), task_of(inputs), Recipe())
    with torch.no_grad():
        first = functional.conv2d(inputs, cut.get_parameter("0.weight"), cut.get_parameter("0.bias"))
        hidden = functional.relu(model[1](model[0](inputs)))[:, [1, 2, 5]]
        second = functional.conv2d(hidden, cut.get_parameter("3.weight"), cut.get_parameter("3.bias"))
    for name, x in (("1", first), ("4", second)):
        assert torch.allclose(cut.get_buffer(f"{name}.running_mean"), x.mean((0, 2, 3)), atol=1e-4)
        assert torch.allclose(cut.get_buffer(f"{name}.running_var"), x.var((0, 2, 3)), rtol=1e-3)
    assert not cut.training


def test_bn_moves_foreign_statistics_by_the_change_alone() -> None:
    torch.manual_seed(0)
    x = torch.randn(50, 1)
    running = torch.tensor([5.0]), torch.tensor([9.0])
    seen: dict[str, tuple[Tensor, ...]] = {}
    observe(seen, "norm", x, None, None, *running, False, 0.1, 0.0, None)
    correct(seen["norm"], 2 * x + 3, None, None, *running, False, 0.1, 0.0, None)
    mean, deviation = x.mean().item(), x.std().item()
    assert running[1].item() == pytest.approx(4 * 9, rel=1e-4)
    assert running[0].item() == pytest.approx(5 + (mean + 3) * 3 / deviation, rel=1e-4)


def test_bn_does_nothing_without_batchnorm() -> None:
    model = linear_pair()
    graph = PrunableGraph.capture(model.eval(), (torch.randn(2, 6),), prove=False)
    cut = graph.cut({graph.groups[0].id: (0, 1)})
    before = state(cut)
    empty = Task("empty", nn.Identity, (torch.randn(2, 6),), [], [])
    BatchNormReestimation().recover(cut, Reference(graph.module()), empty, Recipe())
    assert same(before, cut.state_dict())


# training


def divergence(model: nn.Module, dense: nn.Module, images: Tensor) -> float:
    with torch.no_grad():
        p, q = (functional.log_softmax(net.eval()(images), dim=1) for net in (dense, model))
        return float(functional.kl_div(q, p, reduction="batchmean", log_target=True))


def test_recovery_regains_accuracy_on_digits(digits: Digits) -> None:
    saliencies = Saliencies(digits.graph, digits.task)

    def accuracy(*recover: str, epochs: float = 0.0) -> float:
        recipe = digits.half(recover=recover, epochs=epochs)
        return digits.accuracy(compress(digits.graph, recipe, task=digits.task, saliencies=saliencies))

    none = accuracy()
    assert digits.accuracy(digits.graph.module()) > 0.9
    assert accuracy("lstsq") > none + 0.1
    assert accuracy("bn") > none
    assert accuracy("finetune", epochs=2) > none + 0.1
    assert accuracy("lstsq", "distil", epochs=2) > 0.85


def test_the_divergence_of_soft_targets() -> None:
    # at T = 2 the softened teacher is (2/3, 1/3), the student (1/2, 1/2); T^2 KL = 4 (2/3 ln 4/3 + 1/3 ln 2/3)
    teacher, student = torch.tensor([[2 * math.log(2), 0.0]]), torch.zeros(1, 2)
    expected = 4 * (2 / 3 * math.log(4 / 3) + 1 / 3 * math.log(2 / 3))
    assert distil.divergence(student, teacher, 2.0).item() == pytest.approx(expected, rel=1e-5)


def test_mixed_samples_lie_between_two_of_the_batch() -> None:
    torch.manual_seed(0)
    images, scales = torch.eye(5), torch.arange(5.0)
    seen, seen_scales = distil.mixed((images, scales))
    assert not torch.equal(seen, images)
    assert torch.allclose(seen.sum(1), torch.ones(5))  # shares of two samples, the same two in both inputs
    assert torch.allclose(seen @ scales, seen_scales)
    assert ((seen > 0).sum(1) <= 2).all()


@pytest.mark.parametrize(("epochs", "mixes"), [(0.5, False), (1.0, True)])
def test_only_patient_distillation_mixes(epochs: float, mixes: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[Tensor] = []
    monkeypatch.setattr(distil, "mixed", lambda inputs: seen.extend(inputs) or inputs)
    graph = PrunableGraph.capture(linear_pair().eval(), (torch.randn(2, 6),), prove=False)
    recipe = Recipe(recover=("distil",), epochs=epochs)
    recovery("distil").recover(graph.module(), Reference(graph.module()), task_of(torch.randn(32, 6), batch=8), recipe)
    assert bool(seen) is mixes


def test_token_numbers_are_not_mixed() -> None:
    tokens, mask = torch.arange(6).reshape(3, 2), torch.ones(3, 2)
    assert distil.mixed((tokens, mask))[0] is tokens


def test_distil_comes_closer_to_the_dense_model_without_any_label(digits: Digits) -> None:
    task = replace(digits.task, loss=lambda outputs, targets: pytest.fail("labels were used"))
    saliencies = Saliencies(digits.graph, task)
    dense = digits.graph.module()
    cut = compress(digits.graph, digits.half(), task=digits.task, saliencies=saliencies)
    recipe = digits.half(recover=("distil",), epochs=2)
    trained = compress(digits.graph, recipe, task=task, saliencies=saliencies)
    # BatchNorm alone, re-estimated while training, comes to 0.3
    assert divergence(trained, dense, digits.images) < 0.2 * divergence(cut, dense, digits.images)
    assert not trained.training


@pytest.mark.parametrize("recover", [("lstsq", "bn"), ("finetune",), ("distil",)])
def test_the_same_recipe_gives_the_same_weights(digits: Digits, recover: tuple[str, ...]) -> None:
    loader = torch.utils.data.DataLoader(
        [(image, label) for batch in digits.task.train for image, label in zip(*batch, strict=True)], 64, shuffle=True
    )
    task = Task("shuffled", digits.task.model, digits.task.example_inputs, loader, [])

    def weights(seed: int, noise: int) -> dict[str, Tensor]:
        torch.manual_seed(noise)
        recipe = digits.half(recover=recover, epochs=0.2, seed=seed, criterion="taylor")
        model = compress(digits.graph, recipe, task=task, saliencies=Saliencies(digits.graph, task))
        assert torch.initial_seed() == noise
        return state(model)

    first = weights(0, noise=1)
    assert same(first, weights(0, noise=2))
    assert not same(first, weights(1, noise=1))


def test_a_loss_that_is_not_finite_is_the_candidates_fault(digits: Digits) -> None:
    task = replace(digits.task, loss=lambda outputs, targets: outputs.sum() * torch.nan)
    recipe = digits.half(recover=("finetune",), epochs=0.1)
    with pytest.raises(StageError, match="after 0 of 2 steps") as error:
        compress(digits.graph, recipe, task=task, saliencies=Saliencies(digits.graph, task))
    assert error.value.kind == "diverged"


class View(nn.Module):
    """Refuses images that lie channels last."""

    def forward(self, x: Tensor) -> Tensor:
        return x.view(x.shape[0], -1)


class Single(nn.Module):
    """Refuses what is not in single precision."""

    def __init__(self) -> None:
        super().__init__()
        self.towards = nn.Parameter(torch.ones(8))

    def forward(self, x: Tensor) -> Tensor:
        return x.mean((2, 3)).lerp(self.towards, 0.25)


def distilled(graph: PrunableGraph, inputs: Tensor) -> nn.Module:
    net = graph.module()
    with torch.no_grad():
        for parameter in net.parameters():
            parameter.mul_(0.5)
    recipe = Recipe(recover=("distil",), epochs=4)
    recovery("distil").recover(net, Reference(dense=graph.module()), task_of(inputs, batch=16), recipe)
    return net


MEAN = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten())


@pytest.mark.parametrize(("pool", "layout"), [(View(), torch.contiguous_format), (MEAN, torch.channels_last)])
@pytest.mark.parametrize("bfloat16", [True, False])
def test_training_is_the_same_in_each_mode(
    pool: nn.Module, layout: torch.memory_format, bfloat16: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    torch.manual_seed(0)
    inputs = torch.randn(64, 3, 8, 8)
    model = nn.Sequential(nn.Conv2d(3, 8, 3, padding=1), nn.BatchNorm2d(8), nn.ReLU(), pool, nn.LazyLinear(4)).eval()
    model(inputs[:2])
    graph = PrunableGraph.capture(model, (inputs[:2],))
    monkeypatch.setattr(_training, "has_bfloat16", lambda: bfloat16)
    assert _training._mode(graph.module(), task_of(inputs)) == (layout, bfloat16)
    net = distilled(graph, inputs)
    assert all(parameter.is_contiguous() and parameter.dtype == torch.float32 for parameter in net.parameters())
    monkeypatch.setattr(_training, "_mode", lambda model, task: (torch.contiguous_format, False))
    exact = distilled(graph, inputs)
    close = {"rtol": 0.05, "atol": 5e-3} if bfloat16 else {"rtol": 1e-3, "atol": 1e-4}
    torch.testing.assert_close(dict(net.state_dict()), dict(exact.state_dict()), **close)
    weights = zip(net.state_dict().values(), exact.state_dict().values(), strict=True)
    assert (max(float((one - other).abs().max()) for one, other in weights) > 1e-4) is bfloat16


def test_what_cannot_be_computed_in_bfloat16_is_trained_in_single_precision(monkeypatch: pytest.MonkeyPatch) -> None:
    inputs = torch.randn(64, 3, 8, 8)
    model = nn.Sequential(nn.Conv2d(3, 8, 3), Single()).eval()
    graph = PrunableGraph.capture(model, (inputs[:2],))
    monkeypatch.setattr(_training, "has_bfloat16", lambda: True)
    assert _training._mode(graph.module(), task_of(inputs)) == (torch.channels_last, False)
    before, dense = state(graph.module()), graph.module()
    assert divergence(distilled(graph, inputs), dense, inputs) < 0.5
    assert same(before, dense.state_dict())


def test_training_without_epochs_or_data_is_refused(digits: Digits) -> None:
    saliencies = Saliencies(digits.graph, digits.task)
    with pytest.raises(StageError, match="epochs are 0"):
        compress(digits.graph, digits.half(recover=("distil",)), task=digits.task, saliencies=saliencies)
    empty = Task("empty", nn.Identity, digits.task.example_inputs, [], [])
    with pytest.raises(TaskError, match="training split is empty"):
        compress(digits.graph, digits.half(recover=("finetune",), epochs=1), task=empty, saliencies=saliencies)


# pipeline


def test_select_keeps_the_most_salient_and_the_first_of_equals(digits: Digits) -> None:
    saliencies = Saliencies(digits.graph, digits.task)
    group = digits.graph.groups[0]
    saliencies.of("l2")[group.id].copy_(torch.tensor([float(unit % 4) for unit in range(16)]))
    assert select(Recipe(choices={group.id: Keep(units=6)}), saliencies) == {group.id: (2, 3, 6, 7, 11, 15)}
    assert select(Recipe(choices={group.id: Keep(units=16)}), saliencies) == {}


def test_select_refuses_what_does_not_fit(digits: Digits) -> None:
    saliencies = Saliencies(digits.graph, digits.task)
    group = digits.graph.groups[0]
    with pytest.raises(PruneError, match="'nowhere'"):
        select(Recipe(choices={"nowhere": Keep(units=1)}), saliencies)
    with pytest.raises(PruneError, match="keeps 17 units"):
        select(Recipe(choices={group.id: Keep(units=17)}), saliencies)
    saliencies.of("l2")[group.id][0] = torch.nan
    with pytest.raises(StageError, match="not finite"):
        select(Recipe(choices={group.id: Keep(units=1)}), saliencies)


def test_stages_are_told_and_saliencies_computed_once(digits: Digits) -> None:
    saliencies = Saliencies(digits.graph, digits.task)
    saliencies.warm(["l1", "taylor"])
    assert saliencies.of("taylor") is saliencies.of("taylor")
    stages: list[str] = []
    compress(digits.graph, digits.half(recover=("bn",)), task=digits.task, saliencies=saliencies, notify=stages.append)
    assert stages == ["cut", "recover"]
    stages.clear()
    compress(digits.graph, digits.half(), task=digits.task, saliencies=saliencies, notify=stages.append)
    assert stages == ["cut"]


def test_recoveries_are_listed_in_the_order_of_a_recipe() -> None:
    assert tuple(method.name for method in recoveries()) == RECOVERY_ORDER
    assert all(method.description for method in recoveries())
    with pytest.raises(UsageError, match="known are lstsq, bn, finetune, distil"):
        recovery("prayer")


def test_take_is_bounded_and_passes_over_other_shapes() -> None:
    batches = [
        (torch.zeros(3, 5), torch.zeros(3)),
        (torch.zeros(3, 6), torch.zeros(3)),
        (torch.ones(4, 5), torch.ones(4)),
    ]
    task = Task("sequences", nn.Identity, (torch.zeros(1, 5),), batches, [])
    taken = take(task, 5, batch=2)
    assert [len(targets) for _, targets in taken] == [2, 2, 1]
    assert torch.cat([inputs[0] for inputs, _ in taken])[:, 0].tolist() == [0, 0, 0, 1, 1]


def test_a_copy_of_the_dense_model_stays_as_it_was(digits: Digits) -> None:
    dense = digits.graph.module()
    before = copy.deepcopy(state(dense))
    cut = digits.graph.cut({digits.graph.groups[0].id: tuple(range(8))})
    rows = {"conv1.weight": torch.arange(8), "bn1.running_mean": torch.arange(8)}
    recipe = Recipe(epochs=0.1)
    for method in recoveries():
        method.recover(cut, Reference(dense, rows), digits.task, recipe)
    assert same(before, dense.state_dict())
