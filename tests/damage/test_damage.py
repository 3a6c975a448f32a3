"""Error tables: zero where nothing is cut, more where more is, kept for the next run, blind to labels."""

from pathlib import Path

import pytest
import torch
from torch import nn

from autoprune.compress import Reference, Saliencies
from autoprune.damage import DamageTable, Divergence, measure_damage
from autoprune.damage.measure import Known, filled
from autoprune.graph.model import PrunableGraph
from autoprune.space import KeepRange, RecoverChoice, SearchSpace
from autoprune.task import Task
from tests.engine.small import task

PRINTS = {"code": "c", "weights": "w", "data": "d"}

SPACE = SearchSpace(
    name="s", description="", keep=KeepRange(min=0.25, drop=False), criterion=("l2",), recover=(RecoverChoice(),)
)


@pytest.fixture
def cache(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    return tmp_path


def table(said: list[str] | None = None) -> DamageTable:
    own = task()
    graph = PrunableGraph.capture(own.model(), own.example_inputs)
    space = SPACE.bind(graph.groups, precisions=("fp32",), channel_multiple=8)
    say = said.append if said is not None else lambda text: None
    return measure_damage(graph, own, space, saliencies=Saliencies(graph, own), fingerprints=PRINTS, say=say)


def test_less_kept_is_more_damage_and_nothing_is_measured_twice(cache: Path) -> None:
    said: list[str] = []
    found = table(said)
    assert said
    for damages in found.damage.values():
        assert damages[32] == 0
        ordered = [damages[units] for units in sorted(damages)]
        assert ordered == sorted(ordered, reverse=True)
        assert ordered[0] > 0.01
    again: list[str] = []
    assert table(again).damage == found.damage
    assert not again


def test_where_cuts_are_too_many_the_rest_is_interpolated(cache: Path) -> None:
    own = task()
    graph = PrunableGraph.capture(own.model(), own.example_inputs)
    space = SPACE.bind(graph.groups, precisions=("fp32",), channel_multiple=4)
    said: list[str] = []
    arguments = {"saliencies": Saliencies(graph, own), "fingerprints": PRINTS}
    few = measure_damage(graph, own, space, most=1, say=said.append, **arguments)
    assert len(said) == 2 * len(space.levels), "one says nothing of how the damage grows"
    for group, levels in space.levels.items():
        damages = [few.damage[group][units] for units in levels]
        assert damages == sorted(damages, reverse=True)
        assert damages[-1] == 0 < damages[-2]
    assert measure_damage(graph, own, space, **arguments).damage.keys() == few.damage.keys()


def test_interpolation_follows_a_power() -> None:
    known = {n: 3 * (1 - n / 64) ** 3 for n in (8, 48)}
    found = filled(known, (0, 8, 24, 48, 56, 64), 64)
    assert found[24] == pytest.approx(3 * (1 - 24 / 64) ** 3)
    assert found[56] == pytest.approx(known[48] / 4)
    assert found[0] > known[8]
    assert found[64] == 0


def test_damages_by_other_code_are_measured_again(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = Known.of(PRINTS).path
    assert Known.of(PRINTS).path == before
    monkeypatch.setattr("autoprune.damage.measure.code_digest", lambda *rooms: " ".join(rooms))
    assert Known.of(PRINTS).path != before


def test_the_divergence_of_logits_is_kullback_and_leibler(cache: Path) -> None:
    own = task()
    graph = PrunableGraph.capture(own.model(), own.example_inputs)
    divergence = Divergence(Reference(graph.module().eval()), own, seed=0)
    assert divergence.of(graph.module().eval()) == pytest.approx(0, abs=1e-6)
    cut = graph.cut({"conv1": range(8)}).eval()
    with torch.no_grad():
        inputs = torch.cat([images for images, _ in own.train])[: divergence.samples]
        p, q = own.model()(inputs).softmax(1), cut(inputs).softmax(1)
    assert divergence.of(cut) == pytest.approx(float((p * (p.log() - q.log())).sum(1).mean()), rel=1e-4)


def test_a_single_output_is_compared_by_its_square(cache: Path) -> None:
    torch.manual_seed(0)
    net = nn.Sequential(nn.Linear(4, 16), nn.ReLU(), nn.Linear(16, 1))
    data = [(torch.randn(64, 4), torch.zeros(64))]
    own = Task("line", lambda: net, (torch.zeros(2, 4),), data, data)
    graph = PrunableGraph.capture(net, own.example_inputs)
    divergence = Divergence(Reference(graph.module().eval()), own, seed=0)
    half = graph.cut({graph.groups[0].id: range(8)}).eval()
    assert 0.01 < divergence.of(half) < 10
