"""Ctrl-C that cannot get lost.

A signal handler's exception is raised wherever the interpreter happens to be. In a finaliser, the callback of a weak
reference or of a C library it is printed and dropped, and a run that was told to stop would go on.
"""

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager

Check = Callable[[], None]


@contextmanager
def unmissed() -> Iterator[Check]:
    """A function that raises KeyboardInterrupt if one was dropped meanwhile: to be called between pieces of work."""
    met: list[BaseException] = []
    before = sys.unraisablehook

    def remember(unraisable: "sys.UnraisableHookArgs") -> None:
        if isinstance(unraisable.exc_value, KeyboardInterrupt):
            met.append(unraisable.exc_value)
        else:
            before(unraisable)

    def check() -> None:
        if met:
            raise KeyboardInterrupt from met[0]

    sys.unraisablehook = remember
    try:
        yield check
    finally:
        sys.unraisablehook = before
