import os
import signal
import sys

import pytest

from autoprune.engine.stopping import unmissed


class Finalised:
    """Is told to stop while it is finalised, where Python drops what is raised."""

    def __del__(self) -> None:
        os.kill(os.getpid(), signal.SIGINT)
        for _ in range(100):  # the handler runs between two instructions
            pass


class Failing:
    def __del__(self) -> None:
        raise ValueError("something else")


@pytest.fixture(autouse=True)
def listening() -> None:
    signal.signal(signal.SIGINT, signal.default_int_handler)  # what runs tests in parallel may ignore it


def test_an_interrupt_that_was_dropped_is_raised_by_the_next_check(capfd: pytest.CaptureFixture[str]) -> None:
    with unmissed() as check:
        check()
        thing = Finalised()
        del thing
        with pytest.raises(KeyboardInterrupt):
            check()
    assert capfd.readouterr().err == ""


def test_what_else_is_dropped_is_told_as_ever(monkeypatch: pytest.MonkeyPatch) -> None:
    told: list[object] = []
    monkeypatch.setattr(sys, "unraisablehook", lambda unraisable: told.append(unraisable.exc_value))
    hook = sys.unraisablehook
    with unmissed() as check:
        thing = Failing()
        del thing
        check()
    assert isinstance(told[0], ValueError)
    assert sys.unraisablehook is hook
