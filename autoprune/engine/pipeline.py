"""Candidates on their way: made one after the other, measured on as many devices as there are, told in order."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Mapping
from concurrent.futures import FIRST_COMPLETED, Future, wait
from dataclasses import dataclass
from threading import Thread
from typing import Self

from autoprune.evaluate import Candidate, Evaluator, Screen
from autoprune.recipe import DENSE, Recipe
from autoprune.records import TrialRecord
from autoprune.study import Question


@dataclass(frozen=True)
class Flight:
    """A question; where its recipe was neither known nor on its way, its candidate, and whether that was measured."""

    question: Question
    candidate: Candidate | None
    measured: Future[None]
    alone: bool
    """Nothing else is asked before its answer: others depend on it, or it on others."""


class Pipeline:
    """On one device a candidate is measured before the next is asked for, and nothing else happens meanwhile.

    On several, each measures one, while one more is made and scored here. Answers come in the order of the
    questions, whichever device was faster, so that a search that is resumed goes on as it would have.

    As a context: what is still on its way when it is left is given up.
    """

    def __init__(self, evaluator: Evaluator, screen: Screen | None) -> None:
        self._evaluator, self._screen = evaluator, screen
        self._flights: deque[Flight] = deque()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *gone: object) -> None:
        if self._flights:
            self._evaluator.stop()
        for flight in self._flights:
            if flight.candidate:
                flight.candidate.close()

    def __len__(self) -> int:
        return len(self._flights)

    @property
    def full(self) -> bool:
        """Whether an answer is due before the next question."""
        most = self._at_once + 1 if self._at_once > 1 else 1
        return len(self._flights) >= most or any(flight.alone for flight in self._flights)

    @property
    def recipes(self) -> dict[str, Recipe]:
        """By id, those on their way."""
        return {flight.question.recipe.id: flight.question.recipe for flight in self._flights}

    def begin(self, question: Question, *, known: bool) -> None:
        """Send a recipe on its way; one that is ``known``, or on its way already, only waits for its turn."""
        recipe, measured = question.recipe, Future[None]()
        twin = recipe.id in self.recipes
        candidate = None if known or twin else self._evaluator.begin(recipe, screen=self._screen)
        self._flights.append(Flight(question, candidate, measured, alone=twin or recipe == DENSE))
        if candidate is None:
            measured.set_result(None)
            return
        candidate.make()
        if candidate.ended:
            measured.set_result(None)
            return
        self._measure(candidate, measured)
        candidate.score()

    def _measure(self, candidate: Candidate, measured: Future[None]) -> None:
        """Where there are several devices, in a thread, as soon as one of them is free."""
        if self._at_once == 1:
            _settle(measured, lambda: candidate.measure(self._evaluator.notify))
            measured.result()
            return
        busy = [flight.measured for flight in self._flights if not flight.measured.done()]
        if len(busy) > self._at_once:
            self._evaluator.notify("latency")
            wait([future for future in busy if future is not measured], return_when=FIRST_COMPLETED)
        Thread(target=_settle, args=(measured, candidate.measure), daemon=True).start()

    @property
    def _at_once(self) -> int:
        return self._evaluator.device.at_once

    def end(self, records: Mapping[str, TrialRecord]) -> tuple[Flight, TrialRecord]:
        """The oldest on its way, and what became of it; from ``records`` where it was known. Raises what it raised."""
        flight = self._flights[0]
        if not flight.measured.done():
            self._evaluator.notify("latency")
        flight.measured.result()
        self._flights.popleft()
        if flight.candidate is None:
            return flight, records[flight.question.recipe.id]
        flight.candidate.close()
        return flight, flight.candidate.record()


def _settle(future: Future[None], work: Callable[[], None]) -> None:
    try:
        work()
    except BaseException as error:  # raised again where the result is asked for
        future.set_exception(error)
    else:
        future.set_result(None)
