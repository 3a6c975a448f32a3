"""What check_task refuses, and the sentences it says."""

import dataclasses
import re
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

from autoprune.errors import TaskError
from autoprune.task import Task
from autoprune.tasks import check_task


def net(seed: int = 0) -> nn.Module:
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Dropout(), nn.Linear(8, 3))


def batch(samples: int = 5) -> tuple[Tensor, Tensor]:
    return torch.arange(samples * 4.0).reshape(samples, 4) / 10, torch.arange(samples) % 3


def good(**changes: Any) -> Task:
    task = Task(
        name="t",
        model=net,
        example_inputs=(torch.zeros(1, 4),),
        train=[batch()],
        validation=[batch(), batch(2)],
        test=[batch(3)],
    )
    return dataclasses.replace(task, **changes)


def test_a_good_task() -> None:
    facts = check_task(good())
    assert (facts.input_shapes, facts.output_shape, facts.validation_samples) == (((4,),), (3,), 7)
    images, labels = batch()
    assert facts.metric == pytest.approx(float((net().eval()(images).argmax(1) == labels).float().mean()))
    assert facts.notes == ()


def test_several_inputs_and_a_data_loader() -> None:
    class Sum(nn.Module):
        def forward(self, a: Tensor, b: Tensor) -> Tensor:
            return a + b

    images, labels = batch()
    pairs = DataLoader(TensorDataset(*batch()), batch_size=2, num_workers=0)
    several = [((a, a), b) for a, b in pairs]
    example = (torch.zeros(1, 4), torch.zeros(1, 4))
    assert check_task(good(model=Sum, example_inputs=example, train=several, validation=several, test=None))
    assert check_task(good(train=pairs, validation=pairs, test=None)).validation_samples == len(images) == len(labels)


class Stale:
    """Goes on where the last pass ended."""

    def __init__(self) -> None:
        self.batches = iter([batch(), batch()])

    def __iter__(self) -> Iterator[tuple[Tensor, Tensor]]:
        return self.batches


class Broken:
    def __iter__(self) -> Iterator[Any]:
        raise OSError("disk is gone")


class Returns(nn.Module):
    def __init__(self, make: Callable[[Tensor], Any]) -> None:
        super().__init__()
        self.make = make

    def forward(self, x: Tensor) -> Any:
        return self.make(x)


def nan(tensor: Tensor) -> Tensor:
    tensor = tensor.clone()
    tensor.view(-1)[0] = torch.nan
    return tensor


def broken_weights() -> nn.Module:
    model = nn.Linear(4, 3)
    nn.init.constant_(model.weight, torch.inf)
    return model


def failing() -> nn.Module:
    raise FileNotFoundError("no net.pt")


IMAGES, LABELS = batch()
FAULTS: list[tuple[dict[str, Any], str]] = [
    ({"example_inputs": torch.zeros(1, 4)}, r"example_inputs is a tensor float32 \(1, 4\), expected a tuple"),
    ({"example_inputs": ()}, "example_inputs is a tuple of 0, expected a tuple of tensors"),
    ({"example_inputs": (torch.tensor(1.0),)}, r"example_inputs has a tensor of shape \(\).*dimension 0 must be"),
    ({"example_inputs": (nan(torch.zeros(1, 4)),)}, "example_inputs has NaN"),
    ({"example_inputs": (torch.zeros(1, 4), torch.zeros(1))}, "has 1 inputs, example_inputs has 2"),
    ({"train": []}, "train is empty; give at least one batch"),
    ({"validation": []}, "validation is empty"),
    ({"test": []}, "test is empty"),
    ({"train": Broken()}, "train cannot be read: OSError: disk is gone"),
    (
        {"validation": (b for b in [batch()])},
        "validation is a generator, which is exhausted after one pass; give a list",
    ),
    ({"train": zip([IMAGES], [LABELS], strict=True)}, "train is a zip, which is exhausted"),
    ({"validation": Stale()}, "validation gives no batches on a second pass.*__iter__ starts anew"),
    ({"train": [IMAGES]}, r"first train batch is a tensor float32 \(5, 4\), expected a pair \(inputs, targets\)"),
    ({"test": [(IMAGES, LABELS, LABELS)]}, "first test batch is a tuple of 3, expected a pair"),
    ({"train": [({"x": IMAGES}, LABELS)]}, "inputs of the first train batch hold a dict of 1, expected a tensor"),
    ({"train": [(IMAGES, LABELS.tolist())]}, "targets of the first train batch hold a list of 5"),
    ({"validation": [(nan(IMAGES), LABELS)]}, "inputs of the first validation batch has NaN or infinite"),
    ({"validation": [batch(), (nan(IMAGES), LABELS)]}, "inputs of validation batch 2 has NaN"),
    ({"train": [(IMAGES.clone().requires_grad_(), LABELS)]}, r"requires a gradient; detach\(\) it"),
    ({"train": [(IMAGES.to("meta"), LABELS)]}, "is on meta; give tensors on the CPU"),
    ({"train": [(IMAGES[:, :3], LABELS)]}, r"has inputs float32 \(5, 3\), example_inputs has float32 \(1, 4\)"),
    ({"validation": [(IMAGES.double(), LABELS)]}, r"has inputs float64 \(5, 4\).*differ in dimension 0 only"),
    ({"validation": [(IMAGES, LABELS[:4])]}, "has 5 inputs and 4 targets"),
    ({"model": failing}, r"model\(\) failed at test_check\.py:\d+: FileNotFoundError: no net\.pt"),
    ({"model": lambda: net().state_dict()}, r"model\(\) returned a OrderedDict of 4, expected a torch\.nn\.Module"),
    ({"model": lambda: nn.Linear(4, 3)}, r"model\(\) gives other weights on every call; load the trained weights"),
    ({"model": broken_weights}, "the model's 'weight' has NaN or infinite"),
    ({"model": lambda: net().to("meta")}, r"the model's '0\.weight' is on meta; return the model on the CPU"),
    (
        {"model": lambda: Returns(lambda x: x @ torch.zeros(5, 3))},
        r"the model fails on example_inputs, float32 \(1, 4\).*: RuntimeError: mat1 and mat2 shapes",
    ),
    (
        {"model": lambda: Returns(lambda x: {"logits": x})},
        "the model returns a dict of 1, expected one tensor; wrap it",
    ),
    ({"model": lambda: Returns(torch.mean)}, "the model returns a single number"),
    ({"model": lambda: Returns(lambda x: x / 0)}, "outputs for example_inputs have NaN or infinite"),
    ({"model": lambda: Returns(lambda x: x[:1])}, "makes 1 outputs of 5 samples; dimension 0 is the batch"),
    (
        {"metric": lambda outputs, targets: float("nan")},
        r"the metric is nan for outputs float32 \(5, 3\) and targets int64",
    ),
    (
        {"metric": lambda outputs, targets: outputs[9, 9]},
        r"the metric fails on outputs float32 \(5, 3\).* at test_check\.py:\d+: IndexError",
    ),
    ({"metric": lambda outputs, targets: "high"}, "the metric fails .*ValueError"),
]


@pytest.mark.parametrize(("changes", "message"), FAULTS, ids=[message[:40] for _, message in FAULTS])
def test_what_does_not_fit_is_told(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(TaskError, match=message) as caught:
        check_task(good(**changes))
    text = str(caught.value)
    assert text.startswith("Task 't': ")
    assert text.endswith(".")
    assert "\n" not in text


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"loss": lambda outputs, targets: outputs.sum(dim=1)}, r"it gives a tensor float32 \(5,\)"),
        ({"loss": lambda outputs, targets: outputs.sum() * torch.inf}, "expected a finite scalar"),
        ({"loss": lambda outputs, targets: outputs.sum().item()}, "it gives a float"),
        ({"loss": lambda outputs, targets: outputs.detach().sum()}, "with a gradient"),
        ({"train": [(IMAGES, LABELS.float())]}, "RuntimeError"),
    ],
)
def test_a_loss_that_cannot_train_is_only_noted(changes: dict[str, Any], message: str) -> None:
    (note,) = check_task(good(**changes)).notes
    assert "The loss cannot be used" in note
    assert re.search(message, note)
