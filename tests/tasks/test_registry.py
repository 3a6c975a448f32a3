"""Tasks by name, and their options."""

import subprocess
import sys
from importlib.metadata import EntryPoint
from pathlib import Path
from typing import Literal

import pytest

from autoprune.errors import TaskError, UsageError
from autoprune.task import Task
from autoprune.tasks import load_task, tasks
from autoprune.tasks._options import call_with, options_of


def test_the_shipped_tasks_say_what_they_are() -> None:
    found = {info.name: info for info in tasks()}
    assert {"cifar10", "digits"} <= set(found)
    assert all(info.description.endswith(".") for info in found.values())
    assert [str(option) for option in found["cifar10"].options] == [
        "data=PATH",
        "model=resnet20|resnet56 (default resnet20)",
        "weights=PATH",
    ]


def test_listing_loads_nothing_heavy() -> None:
    code = "from autoprune.tasks import tasks; tasks(); import sys; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert not {"torch", "sklearn", "numpy"} & set(done.stdout.split())


def test_an_unknown_name_lists_the_known_ones() -> None:
    with pytest.raises(UsageError, match=r"Unknown task 'digit': choose one of cifar10, digits.*FILE\.py"):
        load_task("digit")


def plug_in(monkeypatch: pytest.MonkeyPatch, name: str, value: str) -> None:
    monkeypatch.setattr("importlib.metadata.entry_points", lambda group: [EntryPoint(name, value, group)])


def test_a_package_adds_a_task(monkeypatch: pytest.MonkeyPatch) -> None:
    plug_in(monkeypatch, "theirs", f"{__name__}:their_task")
    assert "theirs" in [info.name for info in tasks()]
    assert load_task("theirs", {"classes": "3"}).name == "theirs-3"


def test_two_tasks_of_one_name_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    plug_in(monkeypatch, "digits", "theirs.digits:task")
    with pytest.raises(UsageError, match=r"Two tasks are called 'digits'.*autoprune\.tasks\.digits.*theirs\.digits"):
        tasks()


def test_a_broken_package_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    plug_in(monkeypatch, "theirs", "nowhere_at_all:task")
    with pytest.raises(UsageError, match=r"'theirs' of autoprune\.tasks \(nowhere_at_all:task\) cannot be loaded"):
        load_task("theirs")


def test_a_package_that_returns_something_else(monkeypatch: pytest.MonkeyPatch) -> None:
    plug_in(monkeypatch, "theirs", f"{__name__}:no_task")
    with pytest.raises(TaskError, match="returned a int instead of a Task"):
        load_task("theirs")


def their_task(classes: int = 10) -> Task:
    """Their task."""
    return Task(name=f"theirs-{classes}", model=lambda: None, example_inputs=(), train=[], validation=[])  # type: ignore[arg-type,return-value]


def no_task() -> int:
    return 1


def every_type(
    text: str,
    count: int = 1,
    rate: float = 0.5,
    *,
    fast: bool = False,
    path: Path | None = None,
    size: Literal["s", "m"] = "s",
    guessed=3,
) -> dict[str, object]:
    return dict(locals())


def test_options_become_the_types_of_their_annotations() -> None:
    given = {"text": "1", "count": "2", "rate": "1e-3", "fast": "true", "path": "a/b", "size": "m", "guessed": "4"}
    assert call_with(every_type, given, origin="Task 't'")() == {
        "text": "1",
        "count": 2,
        "rate": 1e-3,
        "fast": True,
        "path": Path("a/b"),
        "size": "m",
        "guessed": 4,
    }


def test_options_are_described() -> None:
    assert list(map(str, options_of(every_type))) == [
        "text=TEXT (required)",
        "count=INTEGER (default 1)",
        "rate=NUMBER (default 0.5)",
        "fast=true|false (default False)",
        "path=PATH",
        "size=s|m (default s)",
        "guessed=INTEGER (default 3)",
    ]


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"text": "", "cuont": "1"}, r"Task 't' has no option 'cuont'\. Its options: .*count=INTEGER"),
        ({}, r"Task 't' needs option 'text': give -o text=VALUE"),
        ({"text": "", "count": "many"}, r"option 'count' is INTEGER, and 'many' is not"),
        ({"text": "", "fast": "perhaps"}, r"option 'fast' is true\|false"),
        ({"text": "", "size": "xl"}, r"option 'size' is s\|m, and 'xl' is not"),
    ],
)
def test_options_that_do_not_fit(given: dict[str, str], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        call_with(every_type, given, origin="Task 't'")


def test_a_task_without_options_says_so() -> None:
    with pytest.raises(UsageError, match=r"no option 'data'\. Its options: none"):
        load_task("digits", {"data": "x"})
