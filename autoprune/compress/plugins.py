"""Finding implementations: one per file of a package of ours, and those that installed distributions bring."""

import importlib
import pkgutil
from importlib.metadata import entry_points
from typing import Any

from autoprune.errors import UsageError


def discover(package: str, attribute: str, *, group: str | None = None) -> dict[str, Any]:
    """Every object called ``attribute`` in the modules of ``package`` and every entry point of ``group``, by its name.

    Raises:
        UsageError: two of them have the same name, or an entry point cannot be loaded.
    """
    folder = importlib.import_module(package)
    modules = [info.name for info in pkgutil.iter_modules(folder.__path__) if not info.name.startswith("_")]
    found = [(f"{package}.{name}", _attribute(f"{package}.{name}", attribute)) for name in modules]
    found += [(entry.value, _load(entry)) for entry in (entry_points(group=group) if group else ())]
    known: dict[str, Any] = {}
    origins: dict[str, str] = {}
    for origin, implementation in found:
        name = implementation.name
        if name in known:
            raise UsageError(f"'{name}' is defined twice: by {origins[name]} and by {origin}. Uninstall one of them.")
        known[name], origins[name] = implementation, origin
    return dict(sorted(known.items()))


def _attribute(module: str, attribute: str) -> Any:
    return getattr(importlib.import_module(module), attribute)


def _load(entry: Any) -> Any:
    try:
        return entry.load()
    except Exception as error:
        raise UsageError(f"The entry point '{entry.value}' of {entry.group} cannot be loaded: {error}.") from error


def pick(known: dict[str, Any], name: str, what: str) -> Any:
    """The implementation of that name. Raises UsageError that lists the known ones when there is none."""
    if name not in known:
        raise UsageError(f"Unknown {what} '{name}': known are {', '.join(known)}.")
    return known[name]
