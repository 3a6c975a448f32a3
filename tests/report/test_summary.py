"""pareto.json: what it says, its published schema, its page in the documentation."""

import json
import re
import subprocess
import sys
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import jsonschema
import pytest

from autoprune.pareto import Goals, hypervolume, normalised, objectives
from autoprune.recipe import DENSE
from autoprune.report import RunReport, pareto_document
from autoprune.report.summary import SCHEMA, schema
from tests.factories import FAILURES, finalist, recipe, record, run_report, score

PAGE = Path(__file__).parents[2] / "docs" / "pareto-json.md"


@pytest.mark.parametrize(
    "report",
    [
        run_report(),
        run_report(finished=False),
        run_report(trials=1),
        run_report(objectives=objectives(("accuracy", "latency_ms", "peak_memory_bytes")), goals=Goals()),
        run_report(goals=Goals(max_latency_ms=0.001)),
    ],
    ids=["finished", "unfinished", "dense only", "three objectives", "goals missed"],
)
def test_documents_follow_the_published_schema(report: RunReport) -> None:
    published = json.loads(SCHEMA.read_text())
    jsonschema.Draft202012Validator.check_schema(published)
    document = json.loads(json.dumps(pareto_document(report), allow_nan=False))
    jsonschema.validate(document, published, cls=jsonschema.Draft202012Validator)
    assert document["chosen"] in [entry["recipe"] for entry in document["front"]]


def test_the_published_schema_is_up_to_date() -> None:
    assert json.loads(SCHEMA.read_text()) == schema(), "run autoprune.report.summary.write_schema()"


def test_the_schema_refuses_what_it_does_not_know() -> None:
    document = {**pareto_document(run_report()), "extra": 1}
    with pytest.raises(jsonschema.ValidationError, match="extra"):
        jsonschema.validate(document, json.loads(SCHEMA.read_text()))


def test_every_field_is_documented() -> None:
    documented = set(re.findall(r"^\| `(\w+)`", PAGE.read_text(), flags=re.M))
    published = schema()
    fields = set(published["properties"]).union(*(part["properties"] for part in published["$defs"].values()))
    assert documented == fields


def test_entries_repeat_the_scores() -> None:
    document = pareto_document(run_report())
    first = document["front"][0]
    latencies = [entry["latency_ms"] for entry in document["front"]]
    assert latencies == sorted(latencies)
    assert first["latency_low_ms"] < first["latency_ms"] < first["latency_high_ms"] < first["latency_p99_ms"]
    assert first["speedup"] == pytest.approx(document["baseline"]["latency_ms"] / first["latency_ms"], rel=0.05)
    assert first["accuracy_drop"] == pytest.approx(document["baseline"]["accuracy"] - first["accuracy"])
    assert first["split"] == "test"
    assert first["model"] == f"front/{first['recipe']}/model.onnx"
    assert document["baseline"]["recipe"] == DENSE.id


def test_no_entry_is_slower_and_less_accurate_than_another() -> None:
    front = pareto_document(run_report())["front"]
    for faster, slower in pairwise(front):
        assert slower["accuracy"] > faster["accuracy"] or slower["latency_low_ms"] <= faster["latency_high_ms"]


def test_a_finalist_that_lost_on_the_test_split_leaves_the_front() -> None:
    better = finalist(record(score(0.92, 1.0), recipe=recipe(1)))
    worse = finalist(record(score(0.93, 1.2), recipe=recipe(2)), shift=-0.02)
    report = run_report(finalists=(better, worse))
    assert [member.recipe for member in report.front] == [better.recipe, DENSE]


def test_the_dense_model_stands_alone_when_nothing_is_better() -> None:
    worse = finalist(record(score(0.91, 3.0), recipe=recipe(1)))
    document = pareto_document(run_report(finalists=(worse,)))
    assert document["chosen"] == DENSE.id
    assert [entry["recipe"] for entry in document["front"]] == [DENSE.id]


def test_failures_are_counted_by_stage_and_kind() -> None:
    trials = pareto_document(run_report())["trials"]
    assert trials["failures"] == {"latency/unsettled": 2, "recover/diverged": 2, "parity/parity": 2}
    assert trials["total"] == 64 == trials["succeeded"] + trials["failed"]


def test_the_hypervolume_never_falls_and_ends_at_that_of_all_trials() -> None:
    report = run_report()
    found = pareto_document(report)["hypervolume"]
    values = [step["value"] for step in found["history"]]
    assert values == sorted(values)
    assert [step["trial"] for step in found["history"]] == list(range(1, 65))
    dense = report.records[0].score
    points = [normalised(r.score, dense, report.objectives) for r in report.records if r.score]
    assert found["value"] == values[-1] == pytest.approx(hypervolume(points, (1, 1)))
    assert found["reference"] == {"accuracy": 0.0, "latency_ms": report.dense.score.latency.median_ms}


def test_failed_trials_leave_the_hypervolume_as_it_was() -> None:
    records = (record(score()), record(FAILURES[0], recipe=recipe(1), minutes=1))
    assert [step.value for step in replace(run_report(), records=records).progress] == [0.0, 0.0]


def test_goals_that_are_missed_say_so() -> None:
    goals = pareto_document(run_report(goals=Goals(min_speedup=50)))["goals"]
    assert not goals["met"]
    assert "not 50x" in goals["misses"][0]
    assert pareto_document(run_report())["goals"]["met"]


def test_reports_need_no_framework() -> None:
    code = "import autoprune.report, sys; print(*{name.partition('.')[0] for name in sys.modules})"
    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split()
    assert not {"torch", "optuna", "onnx", "onnxruntime", "plotly", "numpy"} & set(loaded)
