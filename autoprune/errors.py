"""Every error that a user can meet, as one tree; each branch has its exit code.

::

    AutopruneError              1   unexpected: a fault of ours
    ├── UsageError              2   an option, objective, goal or name that does not exist or does not fit
    │   ├── DocumentError       2   a YAML or JSON document: the message names file, line and field
    │   ├── SpaceError          2   a search space that cannot be bound to this model and device
    │   └── TargetError         2   a hardware profile that is unknown or cannot be used on this machine
    ├── TaskError               3   the user's task: file, model, data, metric
    ├── CaptureError            4   torch.export refuses the model, or nothing in it can be pruned
    ├── PruneError              4   a cut that the graph does not allow
    ├── RunError                5   the run directory: missing, corrupted, not writable, changed circumstances
    │   └── RunLockedError      5   another driver works in it
    ├── SearchError             6   the search ended without a usable model
    ├── DeviceError             7   the device, or the way to it: unreachable, lost, full; the run can be resumed
    └── StageError              -   a fault of one candidate; becomes a ``Failure`` in its record, never ends the run
"""

from typing import ClassVar


class AutopruneError(Exception):
    """Base of the tree. ``str(error)`` is a sentence for the user."""

    exit_code: ClassVar[int] = 1


class UsageError(AutopruneError):
    """A value given by the user does not exist or does not fit."""

    exit_code = 2


class DocumentError(UsageError):
    """A document breaks its schema; the message names file, line and field."""


class SpaceError(UsageError):
    """A search space does not fit the model or the device."""


class TargetError(UsageError):
    """A hardware profile is unknown or its runtime cannot be used here."""


class TaskError(AutopruneError):
    """The user's model, data or metric is at fault."""

    exit_code = 3


class CaptureError(AutopruneError):
    """The model cannot be exported, or nothing in it can be pruned."""

    exit_code = 4


class PruneError(AutopruneError):
    """A cut names an unknown group, an empty selection, or units out of range."""

    exit_code = 4


class RunError(AutopruneError):
    """A run directory is missing, corrupted, not writable, or made under other circumstances."""

    exit_code = 5


class RunLockedError(RunError):
    """Another driver works in this run directory."""


class SearchError(AutopruneError):
    """The search ended without a usable model."""

    exit_code = 6


class DeviceError(AutopruneError):
    """The device or the way to it is at fault, not what was measured on it; the run can be resumed."""

    exit_code = 7


class StageError(AutopruneError):
    """One candidate failed in one stage.

    ``kind`` is a short, stable word for grouping, such as ``parity``, ``unsettled`` or ``out_of_memory``.
    """

    def __init__(self, message: str, *, kind: str) -> None:
        super().__init__(message)
        self.kind = kind
