"""The user's own files: from ``my.py[:function]`` to a Task, with errors that point into the file."""

import dataclasses
import importlib.util
import inspect
import os
import sys
import traceback
import typing
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from modulefinder import ModuleFinder
from pathlib import Path
from types import ModuleType
from typing import Any

from autoprune.errors import AutopruneError, TaskError, UsageError
from autoprune.task import Task
from autoprune.tasks._options import call_with

HOW = "write a function 'task' that returns an autoprune Task"


def load_file(path: Path, name: str | None, options: Mapping[str, str]) -> Task:
    """The task of a Python file: the function or Task object called ``name``, by default ``task``.

    Without either, the file may have exactly one Task object, or exactly one function annotated to return one. The
    file and the modules that it imports from its folder become ``sources`` of the task.

    Raises:
        TaskError: the file is missing, raises, has no task in it, or its function returns something else.
        UsageError: ``options`` do not fit the function.
    """
    path = path.resolve()
    if not os.path.isfile(path):  # False for a name that is too long as well, where Path.is_file raises
        raise TaskError(f"Task file {path} does not exist.")
    with _importable(path.parent):
        module = _run(path, lambda: _import(path))
        found = _find(module, path, name)
        task = _make(found, path, options)
    return dataclasses.replace(task, sources=tuple(sorted({*task.sources, *_sources(path)})))


def _make(found: Any, path: Path, options: Mapping[str, str]) -> Task:
    if isinstance(found, Task):
        if options:
            raise UsageError(
                f"{path.name} holds a finished Task, which has no options; {', '.join(options)} is unknown."
            )
        return found
    called = getattr(found, "__name__", "task")
    task = _run(path, call_with(found, options, origin=f"Task {path.name}:{called}"))
    if not isinstance(task, Task):
        raise TaskError(f"{path.name}: function '{called}' returned a {type(task).__name__} instead of a Task.")
    return task


def _find(module: ModuleType, path: Path, name: str | None) -> Any:
    members = vars(module)
    if name is not None or "task" in members:
        found = members.get(name or "task")
        if isinstance(found, Task) or (callable(found) and not isinstance(found, type)):
            return found
        here = ", ".join(key for key, value in members.items() if inspect.isfunction(value)) or "none"
        raise TaskError(f"{path}: has no function or Task '{name or 'task'}'. Functions in it: {here}.")
    candidates: list[Any] = [value for value in members.values() if isinstance(value, Task)] or [
        value for value in members.values() if inspect.isfunction(value) and _returns_task(value, module)
    ]
    if len(candidates) != 1:
        count = "no task in it" if not candidates else f"{len(candidates)} tasks in it"
        raise TaskError(f"{path}: has {count}: {HOW}, or name the one you mean: --task {path.name}:FUNCTION.")
    return candidates[0]


def _returns_task(function: Callable[..., Any], module: ModuleType) -> bool:
    if function.__module__ != module.__name__:
        return False
    try:
        return typing.get_type_hints(function).get("return") is Task
    except Exception:  # annotations of a helper that is no task may be anything
        return False


def _import(path: Path) -> ModuleType:
    spec = importlib.util.spec_from_file_location(f"autoprune_task_{path.stem}", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # dataclasses and DataLoader workers look classes up by module
    spec.loader.exec_module(module)
    return module


@contextmanager
def _importable(folder: Path) -> Iterator[None]:
    """The folder comes first among the places of imports, and last afterwards, for imports inside functions."""
    sys.path.insert(0, str(folder))
    try:
        yield
    finally:
        sys.path.remove(str(folder))
        if str(folder) not in sys.path:
            sys.path.append(str(folder))


def _run(path: Path, call: Callable[[], Any]) -> Any:
    """``call()``; what it raises becomes a TaskError that names the line of ``path``."""
    try:
        return call()
    except AutopruneError:
        raise
    except (Exception, SystemExit) as error:
        what = f"{type(error).__name__}: {error}".rstrip(": ")
        raise TaskError(f"{path}:{_line(error, path)}: {what}") from error


def _line(error: BaseException, path: Path) -> int:
    if isinstance(error, SyntaxError) and error.filename == str(path):
        return error.lineno or 1
    lines = [frame.lineno for frame in traceback.extract_tb(error.__traceback__) if frame.filename == str(path)]
    return (lines[-1] if lines else None) or 1


def _sources(path: Path) -> list[str]:
    """The file and everything that it imports, directly or not, from its own folder; found without running it."""
    finder = ModuleFinder([str(path.parent)])
    finder.run_script(str(path))
    files = [getattr(module, "__file__", None) for module in finder.modules.values()]
    return [str(file) for file in files if file]
