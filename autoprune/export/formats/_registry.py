"""Formats by name, and by the suffix of a file."""

from functools import cache
from pathlib import Path

from autoprune.export.formats._base import Format
from autoprune.plugins import by_name, pick, shipped

GROUP = "autoprune.formats"
SHIPPED, ATTRIBUTE = "autoprune.export.formats", "FORMAT"


@cache
def _known() -> dict[str, type[Format]]:
    return {
        name: entry.load()
        for name, entry in by_name(shipped(SHIPPED, ATTRIBUTE), group=GROUP, plural="formats").items()
    }


def find_format(name: str) -> type[Format]:
    """The format of that name. Raises UsageError that lists the known ones when there is none."""
    return pick(_known(), name, "format")


def format_of(path: Path) -> type[Format]:
    """The format of an artifact, by its suffix, the plainer of two. Raises UsageError when there is none."""
    return pick({one.suffix: one for _, one in sorted(_known().items(), reverse=True)}, path.suffix, "kind of artifact")
