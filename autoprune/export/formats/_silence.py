"""Converters talk: warnings, log lines, progress, and remarks from C++, all meant for their own developers."""

from __future__ import annotations

import contextlib
import io
import logging
import os
import sys
from collections.abc import Iterator

from autoprune.export.onnx import quiet


@contextlib.contextmanager
def silence() -> Iterator[None]:
    """Nothing of that; what goes wrong comes as an exception."""
    previous = logging.root.manager.disable
    logging.disable(logging.ERROR)
    try:
        nowhere = io.StringIO()
        with _closed_stderr(), contextlib.redirect_stdout(nowhere), contextlib.redirect_stderr(nowhere), quiet():
            yield
    finally:
        logging.disable(previous)


@contextlib.contextmanager
def _closed_stderr() -> Iterator[None]:
    """The process's own, where C++ writes."""
    sys.stderr.flush()
    kept, nowhere = os.dup(2), os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, 2)
    try:
        yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)
        os.close(nowhere)
