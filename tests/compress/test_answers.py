"""What is seen of the dense model is seen once, and in whatever layout it can be computed."""

from collections.abc import Iterator

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from autoprune.compress import Saliencies, compress
from autoprune.compress.batches import laid_out
from autoprune.compress.layers import layers_of
from autoprune.compress.recover import _answers
from autoprune.graph.model import PrunableGraph
from autoprune.recipe import Recipe
from autoprune.task import Task
from tests.compress.conftest import Digits, task_of


class Counted:
    """Batches, and how often they were asked for."""

    def __init__(self, task: Task) -> None:
        self.batches, self.asked = list(task.train), 0

    def __iter__(self) -> Iterator[object]:
        self.asked += 1
        return iter(self.batches)


@pytest.mark.parametrize("most_bytes", [_answers.MOST_BYTES, 0], ids=["kept", "too large"])
def test_the_next_candidate_gets_the_weights_that_the_first_would(
    digits: Digits, monkeypatch: pytest.MonkeyPatch, most_bytes: int
) -> None:
    monkeypatch.setattr(_answers, "MOST_BYTES", most_bytes)
    graph, train = digits.graph, Counted(digits.task)
    task = Task("counted", nn.Identity, graph.example_inputs, train, [])
    recipe, other = (digits.half(recover=methods) for methods in (("lstsq", "bn"), ("lstsq",)))
    fresh = compress(graph, recipe, task=task, saliencies=Saliencies(graph, task))
    saliencies = Saliencies(graph, task)
    compress(graph, other, task=task, saliencies=saliencies)
    compress(graph, recipe, task=task, saliencies=saliencies)
    train.asked = 0
    found = compress(graph, recipe, task=task, saliencies=saliencies).state_dict()
    assert all(torch.equal(found[name], tensor) for name, tensor in fresh.state_dict().items())
    assert train.asked == 0
    (passes,) = saliencies.passes.values()
    assert any(key[0] == "answers" for key in passes.seen) == bool(most_bytes)


def test_another_seed_is_another_look(digits: Digits) -> None:
    saliencies = Saliencies(digits.graph, digits.task)
    for seed in (0, 1):
        recipe = Recipe.model_validate({**digits.half(recover=("lstsq",)).model_dump(), "seed": seed})
        compress(digits.graph, recipe, task=digits.task, saliencies=saliencies)
    first, second = saliencies.passes.values()
    assert [seed for _, _, seed in saliencies.passes] == [0, 1]
    assert len(first.seen) == len(second.seen) == 1


class Viewed(nn.Module):
    """Its view refuses images whose channels lie last."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.head = nn.Conv2d(3, 4, 3), nn.Linear(4 * 16, 2)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.conv(x).relu().view(x.shape[0], -1))


def test_a_model_that_needs_another_layout_gets_it() -> None:
    inputs = torch.randn(40, 3, 6, 6)
    graph = PrunableGraph.capture(Viewed().eval(), (inputs[:2],), prove=False)
    assert laid_out(graph.module(), (inputs,))[0] is inputs
    cut = graph.cut({graph.groups[0].id: (0, 1, 2)}).eval()
    with pytest.raises(RuntimeError, match="view"):
        cut(inputs.contiguous(memory_format=torch.channels_last))
    task = task_of(inputs)
    recipe = Recipe.model_validate({"choices": {graph.groups[0].id: {"units": 3}}, "recover": ["lstsq", "bn"]})
    model = compress(graph, recipe, task=task, saliencies=Saliencies(graph, task))
    assert not torch.equal(model.get_parameter("head.weight"), cut.get_parameter("head.weight"))


def test_images_lie_channels_last_where_the_model_can() -> None:
    images = torch.randn(8, 3, 6, 6)
    assert laid_out(nn.Conv2d(3, 2, 3), (images,))[0].is_contiguous(memory_format=torch.channels_last)
    flat = torch.randn(8, 5)
    assert laid_out(nn.Linear(5, 2), (flat,))[0] is flat


@pytest.mark.parametrize("last", [False, True], ids=["channels first", "channels last"])
@pytest.mark.parametrize(
    ("stride", "padding", "dilation"), [((1, 1), (1, 1), (1, 1)), ((2, 3), (0, 2), (2, 1)), ((1, 2), (3, 0), (1, 3))]
)
def test_patches_are_those_of_unfold(
    stride: tuple[int, int], padding: tuple[int, int], dilation: tuple[int, int], last: bool
) -> None:
    torch.manual_seed(0)
    net = nn.Sequential(nn.Conv2d(3, 5, (3, 2), stride=stride, padding=padding, dilation=dilation), nn.ReLU())
    x = torch.randn(4, 3, 11, 9)
    x = x.contiguous(memory_format=torch.channels_last) if last else x
    (layer,) = layers_of(PrunableGraph.capture(net.eval(), (x[:2],), prove=False).module())
    shape, places = net(x).shape, torch.tensor([0, 3, 7, 20, 41])
    unfolded = functional.unfold(x, (3, 2), dilation, padding, stride)
    assert torch.equal(layer.patches(x, shape, places), unfolded.movedim(1, -1).flatten(0, 1)[places])
