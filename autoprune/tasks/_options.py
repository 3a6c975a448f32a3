"""The options of a task: the keyword arguments of the function that makes it, typed by its annotations."""

import inspect
import types
import typing
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import PydanticSchemaGenerationError, TypeAdapter, ValidationError

from autoprune.errors import TaskError, UsageError

METAVARS = {str: "TEXT", int: "INTEGER", float: "NUMBER", bool: "true|false", Path: "PATH"}


@dataclass(frozen=True)
class Option:
    """One option; ``type`` is as written for the user, ``default`` is None where there is none."""

    name: str
    type: str
    default: str | None
    required: bool

    def __str__(self) -> str:
        note = " (required)" if self.required else f" (default {self.default})" if self.default is not None else ""
        return f"{self.name}={self.type}{note}"


def options_of(function: Callable[..., Any]) -> tuple[Option, ...]:
    """All options of a function that makes a task, in order.

    Raises:
        TaskError: an annotation names something that does not exist.
    """
    return tuple(
        Option(
            name=parameter.name,
            type=_describe(kind),
            default=None if parameter.default in (None, parameter.empty) else str(parameter.default),
            required=parameter.default is parameter.empty,
        )
        for parameter, kind in _parameters(function)
    )


def call_with(function: Callable[..., Any], options: Mapping[str, str], *, origin: str) -> Callable[[], Any]:
    """``function`` with ``options`` bound to its arguments, each in the type that the argument is annotated with.

    Raises:
        UsageError: an option is unknown, missing, or its value does not fit; the message lists the known ones.
    """
    parameters = {parameter.name: (parameter, kind) for parameter, kind in _parameters(function)}
    known = ", ".join(map(str, options_of(function))) or "none"
    for name in options:
        if name not in parameters:
            raise UsageError(f"{origin} has no option '{name}'. Its options: {known}.")
    for name, (parameter, _) in parameters.items():
        if parameter.default is parameter.empty and name not in options:
            raise UsageError(f"{origin} needs option '{name}': give -o {name}=VALUE. Its options: {known}.")
    values = {name: _convert(name, text, parameters[name][1], origin) for name, text in options.items()}
    return lambda: function(**values)


def _parameters(function: Callable[..., Any]) -> list[tuple[inspect.Parameter, Any]]:
    """Each parameter that takes an option, and its type: the annotation, else the default's type, else text."""
    try:
        hints = typing.get_type_hints(function)
    except Exception as error:
        name = getattr(function, "__qualname__", repr(function))
        raise TaskError(f"The annotations of {name} cannot be understood: {error}.") from error
    found = []
    for parameter in inspect.signature(function).parameters.values():
        if parameter.kind in (parameter.POSITIONAL_OR_KEYWORD, parameter.KEYWORD_ONLY):
            guess = str if parameter.default in (None, parameter.empty) else type(parameter.default)
            found.append((parameter, hints.get(parameter.name, guess)))
    return found


def _convert(name: str, text: str, kind: Any, origin: str) -> Any:
    try:
        return TypeAdapter(kind).validate_strings(text)
    except ValidationError as error:
        raise UsageError(f"{origin}: option '{name}' is {_describe(kind)}, and '{text}' is not.") from error
    except PydanticSchemaGenerationError as error:
        raise UsageError(f"{origin}: option '{name}' is a {_describe(kind)}, which cannot be given as text.") from error


def _describe(kind: Any) -> str:
    if typing.get_origin(kind) is typing.Literal:
        return "|".join(map(str, typing.get_args(kind)))
    if typing.get_origin(kind) in (types.UnionType, typing.Union):
        return "|".join(_describe(part) for part in typing.get_args(kind) if part is not types.NoneType)
    return METAVARS.get(kind, getattr(kind, "__name__", str(kind)))
