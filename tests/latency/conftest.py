"""The command line and a target that is timed in a hurry."""

from tests.cli.conftest import command, quick

__all__ = ["command", "quick"]
