"""What went wrong, and whose fault it is."""

from __future__ import annotations

import errno
from pathlib import Path
from shutil import disk_usage

from autoprune.errors import AutopruneError, StageError
from autoprune.records import Failure, Stage

FULL = ("No space left", "disk is full")  # the system's words, and SQLite's
LITTLE_SPACE = 1_000_000  # bytes; an export that fails with less free than that failed for want of it


def innocent(error: Exception, folder: Path) -> bool:
    """Whether the candidate is not to blame: an `AutopruneError` other than `StageError`, or a full disk."""
    no_fault = isinstance(error, AutopruneError) and not isinstance(error, StageError)
    return no_fault or out_of_space(error, folder)


def failure(error: Exception, stage: Stage) -> Failure:
    """What the candidate failed of."""
    if isinstance(error, StageError):
        return Failure(stage=stage, kind=error.kind, message=str(error))
    if isinstance(error, MemoryError):
        return Failure(stage=stage, kind="out_of_memory", message=f"Out of memory: {error}")
    return Failure(stage=stage, kind=type(error).__name__, message=str(error) or repr(error))


def out_of_space(error: BaseException | None, folder: Path) -> bool:
    """Whether ``error`` comes from a full disk; libraries wrap the system's refusal or hide it, so space counts too."""
    while error is not None:
        if getattr(error, "errno", None) in (errno.ENOSPC, errno.EDQUOT) or any(said in str(error) for said in FULL):
            return True
        if isinstance(error, StageError) and error.kind == "export" and disk_usage(folder).free < LITTLE_SPACE:
            return True
        error = error.__cause__ or error.__context__
    return False
