"""The guided search on a toy whose best recipes are known."""

from pathlib import Path

import pytest
from optuna.trial import FixedTrial

from autoprune.pareto import hypervolume, normalised, objectives
from autoprune.recipe import DENSE
from autoprune.records import Screened, Success
from autoprune.strategies import Tables
from autoprune.strategies._tables import BATCH
from autoprune.study import RunDirectory
from tests.study.toy import SPACE, drive, open_ledger, open_search, toy_record, toy_tables

TWO = objectives(("accuracy", "latency_ms"))


def reached(directory: RunDirectory, trials: int) -> float:
    ledger = open_ledger(directory)
    dense = ledger.records[DENSE.id].score
    assert dense
    scores = [ledger.records[recipe].score for recipe in ledger.order[:trials]]
    return hypervolume([normalised(score, dense, TWO) for score in scores if score], (1.0, 1.0))


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
    levels = search.budgets.at_costs("fp32", (0.01, 0.05, 0.1))
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
    search = open_search("guided")
    whole = [SPACE.recipe({}, criterion="l2", precision=p, recover="none") for p in SPACE.precisions]
    records = {recipe.id: toy_record(recipe) for recipe in whole}
    search.learn(records)
    rungs = list({row.tobytes(): search.rows.recipe(row) for row in search._opening}.values())
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
