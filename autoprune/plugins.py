"""Implementations by name: one per file of a package of ours, and those that installed packages add."""

import importlib
import importlib.metadata
import pkgutil
from collections.abc import Iterable, Mapping
from importlib.metadata import EntryPoint
from typing import TypeVar

from autoprune.errors import UsageError

T = TypeVar("T")


def shipped(package: str, attribute: str) -> list[EntryPoint]:
    """What is called ``attribute`` in every module of ``package``, under the module's name; imports none of them."""
    modules = pkgutil.iter_modules(importlib.import_module(package).__path__)
    names = [module.name for module in modules if not module.ispkg and not module.name.startswith("_")]
    return [EntryPoint(name, f"{package}.{name}:{attribute}", package) for name in names]


def by_name(ours: Iterable[EntryPoint], *, group: str, plural: str) -> dict[str, EntryPoint]:
    """``ours`` and every installed entry point of ``group``, by name; ``plural`` says what they are.

    Raises:
        UsageError: two of them have the same name.
    """
    known: dict[str, EntryPoint] = {}
    for entry in (*ours, *importlib.metadata.entry_points(group=group)):
        if entry.name in known:
            raise UsageError(
                f"Two {plural} are called '{entry.name}': {known[entry.name].value} and {entry.value}; uninstall one."
            )
        known[entry.name] = entry
    return dict(sorted(known.items()))


def load(entry: EntryPoint) -> object:
    """What ``entry`` names.

    Raises:
        UsageError: it cannot be imported.
    """
    try:
        return entry.load()
    except Exception as error:  # a package may raise anything when it is imported
        raise UsageError(f"'{entry.name}' of {entry.group} ({entry.value}) cannot be loaded: {error}.") from error


def pick(known: Mapping[str, T], name: str, what: str) -> T:
    """The implementation of that name. Raises UsageError that lists the known ones when there is none."""
    if name not in known:
        raise UsageError(f"Unknown {what} '{name}': known are {', '.join(known)}.")
    return known[name]
