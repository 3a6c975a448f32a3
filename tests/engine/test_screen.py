"""Screening: only what cannot reach the front is given up."""

from pathlib import Path

import pytest
import torch

from autoprune.engine import Silent, configure
from autoprune.engine.prepare import prepare
from autoprune.engine.screen import Screening
from autoprune.evaluate import Evaluator
from autoprune.recipe import DENSE, Recipe
from tests.study.toy import SPACE, toy_record, toy_tables


def test_a_candidate_slower_than_a_better_one_is_given_up_before_anything_is_done() -> None:
    tables = toy_tables()
    known = [toy_record(DENSE), toy_record(Recipe(precision="int8"))]
    better = known[1].score
    assert better
    outcome = known[1].outcome.model_copy(update={"score": better.model_copy(update={"accuracy": 0.95})})
    known[1] = known[1].model_copy(update={"outcome": outcome})
    tables.learn(known)
    mild = SPACE.recipe({"a": 56}, criterion="l2", precision="fp32", recover="none")
    screening = Screening(tables, {record.recipe.id: record for record in known})
    given_up = screening(mild, None, 0)
    assert given_up
    assert given_up.beaten_by == known[1].recipe.id
    fast = SPACE.recipe({"a": 16, "b": 16}, criterion="l2", precision="int8", recover="none")
    assert screening(fast, None, 0) is None


def test_a_glance_is_believed_only_beyond_its_noise() -> None:
    tables = toy_tables()
    rival = SPACE.recipe({"a": 16, "b": 16}, criterion="l2", precision="int8", recover="none")
    known = [toy_record(DENSE), toy_record(rival)]
    tables.learn(known)
    screening = Screening(tables, {record.recipe.id: record for record in known})
    slower = SPACE.recipe({"c": 16}, criterion="l2", precision="int8", recover="none")
    tables.learn([toy_record(slower)])
    score = known[1].score
    assert score
    assert screening(slower, score.accuracy - 0.02, 512) is None
    assert screening(slower, score.accuracy - 0.15, 512)
    assert screening(slower, -3.0, 512) is None, "a metric that is no share of samples has unknown noise"


def test_the_dense_model_is_never_given_up() -> None:
    assert Screening(toy_tables(), {})(DENSE, None, 0) is None


def test_a_glance_takes_no_more_samples_than_it_needs(
    quick: dict[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    prepared = prepare(configure(**quick), Silent())
    evaluator = Evaluator(prepared.task, prepared.graph, prepared.device, work=tmp_path / "work")
    module = prepared.task.model()
    monkeypatch.setattr("autoprune.evaluate.evaluator.SCREEN_SAMPLES", 100)
    seen: list[int] = []
    module.register_forward_pre_hook(lambda _, inputs: seen.append(len(inputs[0])))
    found, samples = evaluator.glance(module)
    assert (seen, samples) == ([32, 32, 32, 4], 100)
    images, labels = (torch.cat(columns)[:100] for columns in zip(*prepared.task.validation, strict=True))
    assert found == pytest.approx(float(prepared.task.metric(module(images).detach(), labels)))
    monkeypatch.setattr("autoprune.evaluate.evaluator.SCREEN_SAMPLES", 10_000)
    assert evaluator.glance(module)[1] == 256, "where there are fewer, all of them"
