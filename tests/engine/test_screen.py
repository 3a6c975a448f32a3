"""Screening: only what cannot reach the front is given up."""

from pathlib import Path

import pytest
import torch

from autoprune.engine import Silent, configure
from autoprune.engine.prepare import prepare
from autoprune.engine.screen import RECENT, Screening
from autoprune.evaluate import Evaluator
from autoprune.recipe import DENSE, Keep, Recipe
from autoprune.records import Screened, TrialRecord
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


def took(record: TrialRecord, *, glance_s: float | None, rest_s: float) -> TrialRecord:
    """With the seconds of its stages, and as many samples as a glance has."""
    stages = {"cut": 9.0, "export": rest_s / 2, "accuracy": rest_s / 2} | ({"screen": glance_s} if glance_s else {})
    assert record.score
    outcome = record.outcome.model_copy(update={"score": record.score.model_copy(update={"samples": 512})})
    return record.model_copy(update={"stages": stages, "outcome": outcome})


def good(n: int) -> Recipe:
    """One of some that lie on a front."""
    return SPACE.recipe({"a": 64 - 8 * n, "b": 64 - 8 * n}, criterion="l2", precision="int8", recover="none")


def bad(n: int) -> Recipe:
    """One of some that are hopeless: without the group that matters most, and in the slower precision."""
    return SPACE.recipe({"a": 8 * n}, criterion="l2", precision="fp32", recover="none")


def test_glances_are_taken_while_they_pay_and_hopeless_candidates_make_them_pay_again() -> None:
    tables = toy_tables()
    known: dict[str, TrialRecord] = {}
    screening = Screening(tables, known)

    def tried(recipe: Recipe, *, glance_s: float | None, rest_s: float) -> bool:
        known[recipe.id] = took(toy_record(recipe), glance_s=glance_s, rest_s=rest_s)
        tables.learn([known[recipe.id]])
        return screening.worth_a_glance()

    assert screening.worth_a_glance(), "nothing is known of their cost"
    for dense in (DENSE, Recipe(precision="int8")):
        assert tried(dense, glance_s=None, rest_s=3.0), "the dense model says nothing of them"
    assert tried(good(1), glance_s=1.0, rest_s=5.0), "one in three"
    assert [tried(good(n), glance_s=1.0, rest_s=5.0) for n in (2, 3, 4)] == [True, False, False]
    assert [tried(bad(n), glance_s=None, rest_s=5.0) for n in (1, 2)] == [True, True], "judged without a glance"


def test_what_a_glance_ended_makes_the_next_one_pay() -> None:
    tables = toy_tables()
    records = [toy_record(DENSE), *(took(toy_record(good(n)), glance_s=1.0, rest_s=3.0) for n in (1, 2, 3))]
    known = {record.recipe.id: record for record in records}
    assert not Screening(tables, known).worth_a_glance()
    ended = Screened(share=0.5, accuracy=0.1, samples=512, beaten_by=good(3).id)
    for n in (1, 2):
        given_up = took(toy_record(bad(n)), glance_s=1.0, rest_s=0.0).model_copy(update={"outcome": ended})
        known[bad(n).id] = given_up
    assert Screening(tables, known).worth_a_glance()


def test_a_run_that_is_resumed_judges_no_more_than_the_last_candidates(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[Recipe] = []
    beaten = Screening._beaten

    def counted(self: Screening, recipe: Recipe, accuracy: float | None, samples: int) -> Screened | None:
        asked.append(recipe)
        return beaten(self, recipe, accuracy, samples)

    monkeypatch.setattr(Screening, "_beaten", counted)
    cuts = [{"a": a, "b": b} for a in range(8, 64, 8) for b in range(8, 64, 8)]
    recipes = [SPACE.recipe(kept, criterion="l2", precision="int8", recover="none") for kept in cuts]
    known = {one.id: took(toy_record(one), glance_s=1.0, rest_s=1.0) for one in (DENSE, *recipes)}
    Screening(toy_tables(), known).worth_a_glance()
    assert len(asked) == RECENT < len(recipes)


class Picky:
    """Gives up nothing before a glance, and everything after it."""

    def __init__(self, *, looks: bool) -> None:
        self.looks = looks

    def __call__(self, recipe: Recipe, accuracy: float | None, samples: int) -> Screened | None:
        return Screened(share=0.5, accuracy=accuracy, samples=samples, beaten_by=DENSE.id) if samples else None

    def worth_a_glance(self) -> bool:
        return self.looks


def test_a_candidate_is_glanced_at_where_that_is_worth_it(quick: dict[str, str], tmp_path: Path) -> None:
    prepared = prepare(configure(**quick), Silent())
    evaluator = Evaluator(prepared.task, prepared.graph, prepared.device, work=tmp_path / "work")
    group, levels = next(iter(prepared.space.levels.items()))
    recipe = Recipe(choices={group: Keep(units=min(levels))})
    seen = evaluator.evaluate(recipe, screen=Picky(looks=True))
    assert (seen.outcome.status, "screen" in seen.stages, "export" in seen.stages) == ("screened", True, False)
    unseen = evaluator.evaluate(recipe, screen=Picky(looks=False))
    assert (unseen.outcome.status, "screen" in unseen.stages) == ("success", False)


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
