"""The guided search on a toy whose best recipes are known."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from optuna.trial import FixedTrial

from autoprune.latency import kept_units
from autoprune.pareto import Goals, hypervolume, normalised, objectives
from autoprune.recipe import DENSE, Recipe
from autoprune.records import Screened, Success, TrialRecord
from autoprune.strategies import Search, Tables
from autoprune.strategies._tables import BATCH
from autoprune.strategies.guided import AROUND
from autoprune.study import RunDirectory
from tests.study.toy import SPACE, drive, open_ledger, open_search, toy_record, toy_tables

TWO = objectives(("accuracy", "latency_ms"))


def reached(directory: RunDirectory, trials: int) -> float:
    ledger = open_ledger(directory)
    dense = ledger.records[DENSE.id].score
    assert dense
    scores = [ledger.records[recipe].score for recipe in ledger.order[:trials]]
    return hypervolume([normalised(score, dense, TWO) for score in scores if score], (1.0, 1.0))


def dense_records() -> dict[str, TrialRecord]:
    whole = [SPACE.recipe({}, criterion="l2", precision=p, recover="none") for p in SPACE.precisions]
    return {recipe.id: toy_record(recipe) for recipe in whole}


def asked(search: Search, records: dict[str, TrialRecord], count: int) -> Iterator[Recipe]:
    """The recipes of so many questions, each answered by the toy's formula before the next."""
    for question in range(len(records), len(records) + count):
        search.learn(records)
        answers = search.propose(question)
        assert answers
        recipe = SPACE.suggest(FixedTrial(answers))
        records[recipe.id] = toy_record(recipe)
        yield recipe


def test_it_needs_a_fraction_of_the_trials_of_the_samplers(tmp_path: Path) -> None:
    volumes = {}
    for name, trials in (("guided", 30), ("tpe", 90), ("random", 90)):
        directory = RunDirectory.create(tmp_path / name)
        drive(directory, strategy=name, trials=trials)
        volumes[name] = reached(directory, trials)
    assert volumes["guided"] >= 0.999 * volumes["tpe"]
    assert volumes["guided"] > volumes["random"]


def test_every_recipe_is_new_and_of_the_space(tmp_path: Path) -> None:
    directory = RunDirectory.create(tmp_path / "run")
    drive(directory, strategy="guided", trials=40)
    assert len((directory.root / "tried.txt").read_text().split()) == 40
    for record in open_ledger(directory).records.values():
        for group, keep in record.recipe.choices.items():
            assert keep.units in SPACE.levels[group]


def test_trials_correct_the_latency_table() -> None:
    tables: Tables = toy_tables()
    recipe = SPACE.recipe({"a": 16, "b": 16}, criterion="l2", precision="fp32", recover="none")
    record = toy_record(recipe)
    assert record.score
    slow = record.score.latency.model_copy(update={"median_ms": 3.6, "low_ms": 3.59, "high_ms": 3.61})
    score = record.score.model_copy(update={"latency": slow})
    record = record.model_copy(update={"outcome": record.outcome.model_copy(update={"score": score})})
    before, unsure = tables.share({"a": 16, "b": 16}, "fp32")
    tables.learn([record])
    after, surer = tables.share({"a": 16, "b": 16}, "fp32")
    assert before < 0.7 < 0.8 < after < 0.95
    assert surer < unsure


def test_many_trials_at_once_teach_as_much_as_one_after_the_other() -> None:
    recipes = [
        SPACE.recipe({"a": a, "b": b, "c": c, "d": d}, criterion="l2", precision=precision, recover="none")
        for precision in SPACE.precisions
        for a in (16, 32, 48, 64)
        for b in (16, 32, 48, 64)
        for c in (16, 32, 48, 64)
        for d in (16, 64)
    ]
    records = [toy_record(recipe) for recipe in recipes if recipe.choices]
    assert len(records) > BATCH * len(SPACE.precisions)
    at_once, one_by_one = toy_tables(), toy_tables()
    at_once.learn(records)
    for record in records:
        one_by_one.learn([record])
    for precision in SPACE.precisions:
        assert at_once.regressions[precision].mean == pytest.approx(one_by_one.regressions[precision].mean, abs=1e-9)


def test_a_screened_candidate_is_pruned_in_the_study_and_never_on_the_front(tmp_path: Path) -> None:
    import optuna

    directory = RunDirectory.create(tmp_path / "run")
    search = open_search("guided")
    ledger = open_ledger(directory, search)
    ledger.enqueue(search.seeds())
    for _ in range(3):
        question = ledger.ask(search.sampler(ledger.answered))
        record = toy_record(question.recipe)
        if question.recipe.choices:
            record = record.model_copy(update={"outcome": Screened(share=0.5, beaten_by=DENSE.id)})
        ledger.tell(question, record)
    assert [trial.state for trial in ledger.study.get_trials()][:3].count(optuna.trial.TrialState.PRUNED) == 1
    assert open_ledger(directory).records.keys() == ledger.records.keys()


def test_the_opening_keeps_to_its_errors_and_gets_faster() -> None:
    search = open_search("guided")
    levels = search.budgets.within(search.budgets.all("fp32"), (0.01, 0.05, 0.1))
    costs = [
        sum(search.tables.damage[group][known[n]] for n, (group, known) in zip(row, SPACE.levels.items(), strict=True))
        for row in levels
    ]
    assert all(cost <= most for cost, most in zip(costs, (0.01, 0.05, 0.1), strict=True))
    shares = [
        search.tables.share({g: known[n] for n, (g, known) in zip(row, SPACE.levels.items(), strict=True)}, "fp32")[0]
        for row in levels
    ]
    assert shares == sorted(shares, reverse=True)
    assert shares[2] < shares[0] < 1


def test_the_opening_ends_where_models_become_useless(monkeypatch: pytest.MonkeyPatch) -> None:
    search, records = open_search("guided"), dense_records()
    search.learn(records)
    rungs = list({row.tobytes(): search.rows.recipe(row) for row in search._ladder}.values())
    assert len({rung.id for rung in rungs} - records.keys()) > 3
    record = toy_record(rungs[2])
    assert record.score
    useless = record.model_copy(update={"outcome": Success(score=record.score.model_copy(update={"accuracy": 0.1}))})
    records[rungs[2].id] = useless
    monkeypatch.setattr(search, "_most_promising", lambda *given: None)
    tried = []
    search.learn(records)
    while answers := search.propose(len(tried)):
        tried.append(SPACE.suggest(FixedTrial(answers)))
        records[tried[-1].id] = toy_record(tried[-1])
        search.learn(records)
    assert tried == rungs[:2], "what is faster than the third has no hope"


@pytest.mark.parametrize("goals", [Goals(min_speedup=4.0), Goals(max_latency_ms=1.0)])
def test_where_no_dense_model_is_as_fast_as_asked_the_opening_is_around_that_speed(goals: Goals) -> None:
    search, records = open_search("guided", goals=goals), dense_records()
    predicted = []
    for recipe in asked(search, records, 4):
        predicted.append(search.tables.share(kept_units(recipe), recipe.precision)[0])
        assert recipe.precision == "int8"
    assert predicted[:3] == pytest.approx([0.25 * part for part in AROUND], abs=0.01)


def test_a_speed_that_is_asked_for_is_tried_however_much_it_costs(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where nothing bearable is as fast; what is beyond all cuts is no reason to cut more."""
    monkeypatch.setattr("autoprune.strategies.guided.WORST_DAMAGE", 0.02)

    def solved(goals: Goals) -> tuple[list[float], float]:
        """The shares of the first questions, and the least of what the solver answers to sensitivities."""
        search, records = open_search("guided", goals=goals), dense_records()
        shares = [search.tables.share(kept_units(recipe), recipe.precision)[0] for recipe in asked(search, records, 3)]
        rows = search._in_precision("int8", search._solved("int8", np.random.default_rng(0)))
        return shares, float(search._shares(rows).min())

    opening, fastest = solved(Goals(min_speedup=4.0))
    assert opening == pytest.approx([0.25 * part for part in AROUND], abs=0.01)
    assert fastest < 0.1
    for goals in (Goals(), Goals(min_speedup=3.0), Goals(min_speedup=20.0)):
        assert solved(goals)[1] > 0.2


def test_what_a_dense_model_reaches_already_changes_no_opening() -> None:
    without, with_goal = (
        [*asked(open_search("guided", goals=goals), dense_records(), 4)] for goals in (Goals(), Goals(min_speedup=2.0))
    )
    assert without == with_goal


def test_a_latency_goal_means_the_same_after_a_resume() -> None:
    first, second = dense_records().values()
    assert second.score
    slower = second.model_copy(update={"outcome": Success(score=second.score.model_copy(update={"reference_ms": 5.0}))})
    boxes = []
    for order in ((first, slower), (slower, first)):
        search = open_search("guided", goals=Goals(max_latency_ms=1.0))
        for record in order:
            search.learn({record.recipe.id: record})
        boxes.append(search._boxes)
    assert boxes[0] == boxes[1]


def test_of_what_seems_fast_enough_the_surest_is_tried(monkeypatch: pytest.MonkeyPatch) -> None:
    search, records = open_search("guided", goals=Goals(min_speedup=3.5)), dense_records()
    assert [*asked(search, records, 4)]
    search.learn(records)

    def tried(unsure: float) -> list[float]:
        monkeypatch.setattr(Tables, "deviations", lambda tables, units, precision: np.full(len(units), unsure))
        recipes = [SPACE.suggest(FixedTrial(search.propose(question) or {})) for question in range(8, 16)]
        return [search.tables.share(kept_units(recipe), recipe.precision)[0] for recipe in recipes]

    assert max(tried(0.03)) < min(tried(0.0)) < 1 / 3.5


@pytest.mark.parametrize(("speedup", "dense_is_too_slow"), [(2.0, False), (4.0, True)])
def test_every_question_is_about_a_speed_that_no_dense_model_has(speedup: float, dense_is_too_slow: bool) -> None:
    search = open_search("guided", goals=Goals(min_speedup=speedup))
    search.learn(dense_records())
    general, goals = search._boxes
    assert search._asked(8) == (goals, general)
    assert search._asked(9) == ((goals, general) if dense_is_too_slow else (general,))


def test_what_no_cut_reaches_is_no_reason_to_try_anything(tmp_path: Path) -> None:
    def volume(goals: Goals) -> float:
        directory = RunDirectory.create(tmp_path / str(goals.min_speedup))
        drive(directory, strategy="guided", trials=24, goals=goals)
        return reached(directory, 24)

    assert volume(Goals(min_speedup=20.0)) > 0.995 * volume(Goals())


def test_what_is_learnt_does_not_depend_on_the_order() -> None:
    recipes = [
        SPACE.recipe({"a": a, "b": b}, criterion="l2", precision=p, recover="none")
        for p in SPACE.precisions
        for a in (16, 32, 48)
        for b in (16, 64)
    ]
    records = {record.recipe.id: record for record in map(toy_record, recipes)}
    at_once, one_by_one = open_search("guided"), open_search("guided")
    at_once.learn(records)
    for n in range(1, len(records) + 1):
        one_by_one.learn(dict(list(records.items())[::-1][:n]))
    assert (at_once._ids == sorted(records)).all()
    assert (at_once._scored == one_by_one._scored).all()
    assert (at_once._measured == one_by_one._measured).all()
    assert (at_once._scored == at_once.rows.of([records[name].recipe for name in sorted(records)])).all()
    assert [at_once.propose(n) for n in range(30, 34)] == [one_by_one.propose(n) for n in range(30, 34)]
