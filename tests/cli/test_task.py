"""Exit codes 3 and 4: the user's task or model is at fault; said before a run directory is made."""

from collections.abc import Callable
from pathlib import Path

import pytest

from tests.cli.conftest import Command
from tests.cli.test_usage import assert_said

OwnTask = Callable[..., Path]

METRIC = "def metric(outputs, targets):\n    return {}"
NET = """\
class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.a, self.b, self.c = nn.Linear(64, 32), nn.Linear(32, 32), nn.Linear(32, 10)

    def forward(self, x):
        x = torch.relu(self.a(x.flatten(1)))
        {}

net = Net()
"""


@pytest.mark.parametrize("command_name", ["explain", "search"])
@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, r"Task file .*own\.py does not exist"),
        ("x = 1\n", r"own\.py: has no task in it: write a function 'task' that returns an autoprune Task"),
        ("def task():\n    x = {}\n    return x['key']\n", r"own\.py:3: KeyError: 'key'"),
        ("import torch\nraise SystemExit('no GPU')\n", r"own\.py:2: SystemExit: no GPU"),
        ("def task(:\n", r"own\.py:1: SyntaxError"),
        ("def task():\n    return 3\n", r"own\.py: function 'task' returned a int instead of a Task"),
        (b"x = '\xff'\n", r"own\.py:1: SyntaxError"),
    ],
)
def test_a_file_without_a_usable_task(
    command: Command, tmp_path: Path, command_name: str, content: str | bytes | None, message: str
) -> None:
    path = tmp_path / "own.py"
    if content is not None:
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
    done = command(command_name, "--task", path)
    assert done.code == 3
    assert_said(done.said, message)
    assert not done.out


def test_a_function_that_is_not_there(command: Command, own_task: OwnTask) -> None:
    done = command("explain", "--task", f"{own_task()}:other")
    assert done.code == 3
    assert_said(done.said, r"has no function or Task 'other'\. Functions in it: task")


def test_a_path_that_no_file_can_have(command: Command) -> None:
    done = command("search", "--task", "x" * 5000 + ".py")
    assert done.code == 3
    assert_said(done.said, "does not exist")


@pytest.mark.parametrize(
    ("changes", "before", "message"),
    [
        ("example_inputs=(torch.zeros(1, 3, 8, 8),)", "", r"first train batch has inputs .*1, 8, 8\), example_inputs"),
        ("model=lambda: nn.Conv2d(3, 8, 3)", "", r"model\(\) gives other weights on every call"),
        ("model=lambda: net", "net = nn.Conv2d(3, 8, 3)", "the model fails on example_inputs, float32 .*RuntimeError"),
        ("model=lambda: 1 / 0", "", r"model\(\) failed at own\.py:\d+: ZeroDivisionError"),
        ("validation=[]", "", "validation is empty; give at least one batch"),
        ("train=iter(())", "", "train is a tuple_iterator, which is exhausted after one pass"),
        ("validation=bad", "bad = [(torch.full((4, 1, 8, 8), torch.nan), torch.zeros(4))]", "has NaN or infinite"),
        ("validation=None", "", "validation cannot be read: TypeError"),
        (
            "validation=Broken(), train=small.batches(0, 8)",
            "class Broken:\n    def __iter__(self):\n        yield from small.batches(0, 8)\n        1 / 0",
            "validation cannot be read to its end: ZeroDivisionError",
        ),
        ("test=[small.batches(0, 8)[0], 'text']", "", r"test batch 2 is a str, expected a pair \(inputs, targets\)"),
        ("metric=metric", METRIC.format("'good'"), "the metric fails on outputs .*ValueError"),
        ("metric=metric", METRIC.format("float('nan')"), "the metric is nan .*must be a finite number"),
        ("name='x\\udcff'", "", r"A task's name is 'x\\udcff', expected printable text"),
        ("name=3", "", "A task's name is 3, expected printable text"),
    ],
)
def test_a_task_that_does_not_fit_together(
    command: Command, own_task: OwnTask, changes: str, before: str, message: str
) -> None:
    done = command("explain", "--task", own_task(changes, before=before))
    assert done.code == 3
    assert_said(done.said, message)
    assert len(done.err.splitlines()) == 1


def test_nothing_is_written_for_a_task_that_fails(
    command: Command, own_task: OwnTask, quick: dict[str, str], tmp_path: Path
) -> None:
    out = tmp_path / "out"
    done = command("search", "--task", own_task("validation=[]"), "--target", quick["target"], "--out", out)
    assert done.code == 3
    assert not out.exists()


def test_a_test_split_that_cannot_be_scored(
    command: Command, own_task: OwnTask, quick: dict[str, str], tmp_path: Path
) -> None:
    before = METRIC.format("0.5 if len(targets) != 3 else 1 / 0")
    path = own_task("metric=metric, test=[(torch.zeros(3, 1, 8, 8), torch.zeros(3))]", before=before)
    documents = ("--target", quick["target"], "--space", quick["space"], "--out", tmp_path / "out")
    done = command("search", "--task", path, "--trials", 2, *documents)
    assert done.code == 3
    assert_said(done.said, "Task 'small': the test split cannot be scored")
    assert len(list((tmp_path / "out" / "trials").iterdir())) == 2


def test_a_dense_model_that_cannot_be_scored_stops_at_once(
    command: Command, own_task: OwnTask, quick: dict[str, str], tmp_path: Path
) -> None:
    path = own_task("metric=metric", before=METRIC.format("0.5 if len(targets) <= 32 else 1 / 0"))
    documents = ("--target", quick["target"], "--space", quick["space"], "--out", tmp_path / "out")
    done = command("search", "--task", path, "--trials", 9, *documents)
    assert done.code == 6
    assert_said(done.said, r"The dense model itself failed \(accuracy\)")
    assert not list((tmp_path / "out" / "trials").iterdir()), "nothing else was tried, and it is tried again on resume"
    assert "division by zero" in (tmp_path / "out" / "log.jsonl").read_text()


def test_a_model_with_nothing_to_prune(command: Command, own_task: OwnTask) -> None:
    before = "net = nn.Sequential(nn.Flatten(), nn.Linear(64, 10))"
    done = command("explain", "--task", own_task("model=lambda: net", before=before))
    assert done.code == 4
    assert_said(done.said, "model of task 'small' has nothing to prune: no channels, heads or hidden units can be cut")


def test_a_model_that_cannot_be_exported(command: Command, own_task: OwnTask) -> None:
    before = NET.format("return self.c(x) if x.sum() > 0 else self.c(-x)")
    done = command("explain", "--task", own_task("model=lambda: net", before=before))
    assert done.code == 4
    assert_said(done.err, "^autoprune: torch.export cannot capture Net: .*data-dependent")
    assert_said(done.said, r"Remove data-dependent control flow from forward\(\)")
    assert len(done.err.splitlines()) == 1, "torch.export prints the graph so far"


def test_a_model_with_its_batch_size_baked_in(command: Command, own_task: OwnTask, quick: dict[str, str]) -> None:
    before = NET.format("return self.c(torch.stack([self.b(row) for row in x]))")
    path = own_task("model=lambda: net", before=before)
    assert command("explain", "--task", path).code == 0
    done = command("search", "--task", path, "--target", quick["target"])
    assert done.code == 4
    assert_said(done.said, "model of task 'small' works with batches of 2 only")


def test_explain_names_the_operator_in_the_way(command: Command, own_task: OwnTask) -> None:
    before = NET.format("return self.c(torch.cumprod(torch.relu(self.b(x)), 1))")
    done = command("explain", "--task", own_task("model=lambda: net", before=before))
    assert done.code == 0
    assert_said(done.out, r"Operators that keep dimensions whole: 1\n.*\n *cumprod")
    assert not done.err
