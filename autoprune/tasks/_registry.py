"""Which tasks there are, and from a name or a file to a Task."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from importlib.metadata import EntryPoint
from pathlib import Path
from typing import Any, cast

from autoprune.errors import TaskError, UsageError
from autoprune.plugins import by_name, load, shipped
from autoprune.task import Task
from autoprune.tasks._files import load_file
from autoprune.tasks._options import Option, call_with, options_of

GROUP = "autoprune.tasks"


@dataclass(frozen=True)
class TaskInfo:
    """A task that can be named: ``description`` is the first line of its function's docstring."""

    name: str
    description: str
    options: tuple[Option, ...]


def tasks() -> list[TaskInfo]:
    """All tasks that can be named, by name. Loads no data and neither torch nor scikit-learn.

    A built-in task is the function ``task`` of a file in this folder; an installed package adds one with an entry
    point of ``autoprune.tasks`` that names a function returning a `Task`.

    Raises:
        UsageError: two tasks have the same name, or a package's entry point cannot be loaded.
    """
    return [_describe(entry) for entry in _known().values()]


def load_task(spec: str, options: Mapping[str, str] | None = None) -> Task:
    """The task that ``spec`` names: a built-in one, ``FILE.py`` or ``FILE.py:FUNCTION``.

    Args:
        options: arguments of the function that makes the task, as text.

    Raises:
        UsageError: no such task or option, or a value does not fit its option.
        TaskError: the file is missing, has no task in it, or fails; data or weights are missing.
    """
    path, function = _split(spec)
    if path is not None:
        return load_file(path, function, options or {})
    known = _known()
    if spec not in known:
        raise UsageError(f"Unknown task '{spec}': choose one of {', '.join(known)}, or give FILE.py[:FUNCTION].")
    task = call_with(_function(known[spec]), options or {}, origin=f"Task '{spec}'")()
    if not isinstance(task, Task):
        raise TaskError(f"Task '{spec}' ({known[spec].value}) returned a {type(task).__name__} instead of a Task.")
    return task


def _split(spec: str) -> tuple[Path | None, str | None]:
    """The file and the function that ``spec`` names; no file when it is a name."""
    if spec.endswith(".py"):
        return Path(spec), None
    path, _, function = spec.rpartition(":")
    return (Path(path), function or None) if path.endswith(".py") else (None, None)


def _known() -> dict[str, EntryPoint]:
    return by_name(shipped("autoprune.tasks", "task"), group=GROUP, plural="tasks")


def _function(entry: EntryPoint) -> Callable[..., Any]:
    return cast(Callable[..., Any], load(entry))


def _describe(entry: EntryPoint) -> TaskInfo:
    function = _function(entry)
    description = (function.__doc__ or "").strip().partition("\n")[0]
    return TaskInfo(name=entry.name, description=description, options=options_of(function))
