"""Who watches a run: the terminal, a notebook, a test."""

from dataclasses import dataclass
from typing import Protocol


@dataclass(frozen=True)
class Status:
    """Where the search stands.

    ``best`` says in words what was reached so far; ``seconds_left`` is None until there is a trial to judge by.
    """

    done: int
    total: int
    failed: int
    front_size: int
    best: str
    elapsed_s: float
    seconds_left: float | None


class Observer(Protocol):
    """Told what happens, as it happens; must return at once and raise nothing."""

    def message(self, text: str) -> None:
        """Something that the user should read."""

    def stage(self, text: str) -> None:
        """What is being done now."""

    def status(self, status: Status) -> None:
        """A trial ended."""


class Silent:
    """Watches nothing."""

    def message(self, text: str) -> None:
        """Drop it."""

    def stage(self, text: str) -> None:
        """Drop it."""

    def status(self, status: Status) -> None:
        """Drop it."""
