"""Whatever a program prints is read, or refused in words."""

import contextlib
import json
import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from autoprune.commands import Reading
from autoprune.devices import _reading
from autoprune.devices._invoke import Done
from autoprune.devices._reading import UnreadError, durations

VALUES = st.recursive(
    st.none() | st.booleans() | st.floats() | st.integers() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from("ab"), inner, max_size=2),
    max_leaves=8,
)


@pytest.mark.parametrize(
    ("path", "gives", "expected"),
    [
        ("runs[*].ms", "each", [0.002, 0.003]),
        ("runs[0].ms", "mean", [0.001]),
        ("runs[*].ms", "mean", [0.003]),
        ("stats.mean", "mean", [0.0025]),
        ("nested[1][*]", "each", [0.007, 0.008]),
    ],
)
def test_json(path: str, gives: str, expected: list[float]) -> None:
    printed = {"runs": [{"ms": 1}, {"ms": 2}, {"ms": "3"}], "stats": {"mean": 2.5}, "nested": [[5], [7, 8]]}
    reading = Reading.model_validate({"json_path": path, "unit": "ms", "gives": gives})
    for out in (json.dumps(printed, indent=2), f"loading\n{json.dumps(printed)}\n"):
        assert durations(reading, Done(0, out, ""), 2) == pytest.approx(expected)


def test_patterns_see_both_streams_and_the_last_holds() -> None:
    reading = Reading(pattern=r"^avg=([\d.]+) us$", unit="us", gives="mean")
    assert durations(reading, Done(0, "avg=1 us\n", "INFO\navg=2.5 us\n"), 9) == pytest.approx([2.5e-6])


def test_a_pattern_that_never_ends_is_ended(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_reading, "MATCH_SECONDS", 0.5)
    began = time.monotonic()
    with pytest.raises(UnreadError, match=r"longer than 0.5 s"):
        durations(Reading(pattern="((?:a+)+)$", unit="s", gives="mean"), Done(0, "a" * 5000 + "!", ""), 1)
    assert time.monotonic() - began < 5


@given(VALUES, st.sampled_from(["a", "[*]", "a[*].b", "b[0][1]", "a.b.a"]), st.sampled_from(["each", "mean"]))
def test_any_json_is_read_or_refused(printed: object, path: str, gives: str) -> None:
    reading = Reading.model_validate({"json_path": path, "unit": "ns", "gives": gives})
    with contextlib.suppress(UnreadError):
        found = durations(reading, Done(0, json.dumps(printed), ""), 2)
        assert len(found) == (2 if gives == "each" else 1)
        assert all(isinstance(one, float) for one in found)


@settings(max_examples=50, deadline=None)
@given(st.text(max_size=200), st.text(max_size=200))
def test_any_text_is_read_or_refused(out: str, err: str) -> None:
    reading = Reading(pattern=r"([\d.]+)", unit="s", gives="mean")
    with contextlib.suppress(UnreadError):
        assert len(durations(reading, Done(0, out, err), 5)) == 1


@pytest.mark.parametrize("out", ["1" * 10_000, '{"a": ' + "1" * 10_000 + "}", '{"a": 1e999}', "[" * 100_000, "\x00"])
def test_hostile_json(out: str) -> None:
    reading = Reading(json_path="a", unit="s", gives="mean")
    with contextlib.suppress(UnreadError):
        assert durations(reading, Done(0, out, ""), 1) == [float("inf")]
