"""Clocks that are held still while a run measures: only where the user allowed it, and given back whatever happens."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from typing import Any

from autoprune.devices._wire import Connection
from autoprune.devices._worker import Plain, Worker
from autoprune.errors import AutopruneError, StageError

CLOCKS = Plain("clocks")
LONGEST = 500
ROOT = "/"  # of what is changed there
Tell = Callable[[str], None]


class HeldClocks:
    """Holds the clocks behind ``connection``, until `release`, or until the connection ends, however it does.

    What is refused there, for want of rights mostly, is told and costs nothing else.
    """

    def __init__(self, connection: Connection, tell: Tell, *, gpu: bool) -> None:
        self._name, self._tell = connection.name, tell
        self._worker: Worker | None = None
        self.said = "as they were"
        try:
            self._worker = Worker(connection, CLOCKS)
            reply, _ = self._worker.ask("hold", root=ROOT, gpu=gpu)
        except StageError as error:
            tell(f"The clocks of device '{self._name}' are left as they are: {error}")
            return
        held, refused = _listed(reply.get("held")), _listed(reply.get("refused"))
        if reply.get("left"):
            tell(f"Device '{self._name}' had clocks that a run had held when it was killed; they were set back first.")
        if held:
            self.said = held
            tell(f"The clocks of device '{self._name}' are held until the end: {held}.")
        if refused or not held:
            why = refused or "there is nothing that autoprune knows to hold"
            tell(f"Clocks of device '{self._name}' are left as they are: {why}.")

    def release(self) -> None:
        """Give them back; where the connection is gone, the device does that by itself."""
        if self._worker is None:
            return
        with contextlib.suppress(AutopruneError):
            if not self._worker.ask("give_back")[0].get("restored"):
                self._tell(f"Clocks of device '{self._name}' could not all be set back; the next run will try again.")
        self._worker.close()
        self._worker = None


def _listed(found: Any) -> str:
    """What a device says, in words: at most so many of them, whatever it says."""
    return ", ".join(map(str, found))[:LONGEST] if isinstance(found, list) else ""
