"""The user's own files, and the document that explains them."""

import re
import runpy
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch

from autoprune.errors import TaskError, UsageError
from autoprune.tasks import check_task, fingerprint, load_task

TASK = """
import torch
from autoprune.task import Task
def make(name="n"):
    model = lambda: torch.nn.Linear(2, 2)
    return Task(name, model, example_inputs=(torch.zeros(1, 2),), train=[], validation=[])
"""
Write = Callable[..., str]


@pytest.fixture(autouse=True)
def _clean_imports(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr(sys, "path", list(sys.path))
    before = set(sys.modules)
    yield
    for name in set(sys.modules) - before:
        if name in {"helper", "net", "train"} or name.startswith("autoprune_task_"):
            del sys.modules[name]


@pytest.fixture
def write(tmp_path: Path) -> Write:
    def write(content: str, name: str = "my.py") -> str:
        (tmp_path / name).write_text(content)
        return str(tmp_path / name)

    return write


def test_the_function_called_task(write: Write) -> None:
    path = write(TASK + "def task(): return make('a')\ndef other(): return make('b')")
    assert load_task(path).name == "a"
    assert load_task(f"{path}:other").name == "b"


def test_the_only_task_object(write: Write) -> None:
    assert load_task(write(TASK + "mine = make('object')")).name == "object"


def test_the_only_function_that_returns_a_task(write: Write) -> None:
    assert load_task(write(TASK + "def mine() -> Task: return make('annotated')")).name == "annotated"


def test_options_reach_the_function_in_its_types(write: Write) -> None:
    path = write("from __future__ import annotations\n" + TASK + "def task(width: int): return make(str(width + 1))")
    assert load_task(path, {"width": "41"}).name == "42"
    with pytest.raises(UsageError, match=r"Task my\.py:task has no option 'depth'\. Its options: width=INTEGER"):
        load_task(path, {"depth": "1"})


def test_a_finished_task_has_no_options(write: Write) -> None:
    with pytest.raises(UsageError, match="holds a finished Task, which has no options; width is unknown"):
        load_task(write(TASK + "task = make()"), {"width": "1"})


def test_a_file_imports_what_lies_beside_it_now_and_later(write: Write) -> None:
    write("name = 'beside'", "helper.py")
    write("name = 'later'", "net.py")
    path = write(
        TASK + "import helper\ndef task():\n    return make(helper.name)\ndef late():\n    import net\n    return net"
    )
    task = load_task(path)
    assert task.name == "beside"
    assert [Path(source).name for source in task.sources] == ["helper.py", "my.py", "net.py"]
    assert sys.modules["autoprune_task_my"].late().name == "later"


def test_a_change_beside_the_file_changes_the_code_fingerprint(write: Write) -> None:
    write("name = 1", "helper.py")
    path = write(TASK + "import helper\ndef task(): return make()")
    first = fingerprint(load_task(path))["code"]
    assert fingerprint(load_task(path))["code"] == first
    write("name = 2", "helper.py")
    assert fingerprint(load_task(path))["code"] != first


@pytest.mark.parametrize(
    ("content", "function", "message"),
    [
        ("x = 1", "", r"has no task in it: write a function 'task'.*--task my\.py:FUNCTION"),
        ("a, b = make(), make()", "", "has 2 tasks in it.*name the one you mean"),
        ("def task(): return make()", ":tsak", "no function or Task 'tsak'. Functions in it: make, task"),
        ("task = 3", "", "no function or Task 'task'"),
        ("def task(): return 3", "", "function 'task' returned a int instead of a Task"),
    ],
)
def test_no_task_to_be_found(write: Write, content: str, function: str, message: str) -> None:
    with pytest.raises(TaskError, match=message):
        load_task(write(TASK + content) + function)


def test_a_missing_file(tmp_path: Path) -> None:
    with pytest.raises(TaskError, match=r"Task file .*nowhere\.py does not exist"):
        load_task(f"{tmp_path}/nowhere.py:task")


@pytest.mark.parametrize(
    ("content", "message", "cause"),
    [
        ("\n\nimport no_such_module", r"my\.py:3: ModuleNotFoundError: No module named 'no_such_module'", ImportError),
        ("\ndef task(:", r"my\.py:2: SyntaxError", SyntaxError),
        ("def task():\n    return [][1]", r"my\.py:2: IndexError: list index out of range", IndexError),
        ("import torch\ndef task():\n    torch.load('none')", r"my\.py:3: FileNotFoundError", FileNotFoundError),
        ("raise SystemExit(2)", r"my\.py:1: SystemExit: 2", SystemExit),
    ],
)
def test_a_failing_file_is_told_by_line(write: Write, content: str, message: str, cause: type) -> None:
    with pytest.raises(TaskError, match=message) as caught:
        load_task(write(content))
    assert isinstance(caught.value.__cause__, cause)


def test_a_message_of_the_users_own_stays_as_it_is(write: Write) -> None:
    with pytest.raises(TaskError, match=r"^fetch the data first$"):
        load_task(write("from autoprune.errors import TaskError\ndef task(): raise TaskError('fetch the data first')"))


@pytest.mark.slow
def test_the_example_of_the_document_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    text = Path(__file__).parents[2].joinpath("docs/your-own-model.md").read_text()
    blocks = dict(re.findall(r"```python file=(\S+)\n(.*?)```", text, flags=re.S))
    for name, content in blocks.items():
        (tmp_path / name).write_text(content)
    monkeypatch.chdir(tmp_path)
    torch.manual_seed(0)
    runpy.run_path("train.py", run_name="__main__")
    task = load_task("my.py", {"batch": "32"})
    facts = check_task(task)
    assert facts.validation_samples == 360
    assert facts.metric > 0.6
    assert facts.notes == ()
    assert fingerprint(task) == fingerprint(load_task("my.py")) | {"data": fingerprint(task)["data"]}
