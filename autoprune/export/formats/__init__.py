"""What the runtimes load: one file per format, found by its name."""

from autoprune.export.formats._base import Format
from autoprune.export.formats._registry import find_format, format_of

__all__ = ["Format", "find_format", "format_of"]
