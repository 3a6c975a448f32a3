"""What is said of a fault of ours: one sentence, and the whole traceback in a file."""

import os
import tempfile
import traceback


def crash_report(error: Exception) -> str:
    """Write the traceback of ``error`` to a temporary file; a sentence that names it."""
    handle, path = tempfile.mkstemp(prefix="autoprune-crash-", suffix=".log")
    with os.fdopen(handle, "w", encoding="utf-8") as file:
        file.write("".join(traceback.format_exception(error)))
    return (
        f"a fault of autoprune itself, please report it: {type(error).__name__}: {error}. The traceback is in {path}."
    )
