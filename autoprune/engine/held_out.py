"""The test split, read once per artifact: what it said is kept, however often a run is resumed or extended."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pydantic import Field, PositiveInt, ValidationError

from autoprune.documents import Strict
from autoprune.errors import RunError

if TYPE_CHECKING:
    from collections.abc import Callable

    from autoprune.study import RunDirectory


class TestScore(Strict):
    """The task's metric on ``samples`` test samples."""

    accuracy: float
    samples: PositiveInt


class TestScores(Strict):
    """``test.json``: scores by the SHA-256 of the artifact; ``data`` is the fingerprint of the data they are of."""

    data: str
    scores: dict[str, TestScore] = Field(default_factory=dict)


class HeldOut:
    """Scores artifacts on the test split, each once, also over several sessions of one run.

    Raises:
        RunError: ``test.json`` is corrupted; names it.
    """

    def __init__(self, directory: RunDirectory, data: str) -> None:
        self._directory = directory
        self._known = TestScores(data=data)
        if directory.test.is_file():
            try:
                earlier = TestScores.model_validate(directory.read(directory.test))
            except ValidationError as error:
                raise RunError(f"{directory.test} is corrupted: {error.errors()[0]['msg']}.") from error
            self._known = earlier if earlier.data == data else self._known

    def score(self, artifact: str, measure: Callable[[], tuple[float, int]]) -> tuple[float, int]:
        """Accuracy and samples of the artifact with this SHA-256, by ``measure`` only where they are not known."""
        if artifact not in self._known.scores:
            accuracy, samples = measure()
            scores = {**self._known.scores, artifact: TestScore(accuracy=accuracy, samples=samples)}
            self._known = self._known.model_copy(update={"scores": scores})
            self._directory.write(self._directory.test, self._known.model_dump(mode="json"))
        known = self._known.scores[artifact]
        return known.accuracy, known.samples
