"""The pages' commands run in this process, against a target that is timed in a hurry."""

from tests.cli.conftest import command, quick
from tests.engine.conftest import board, server

__all__ = ["board", "command", "quick", "server"]
