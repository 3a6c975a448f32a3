"""Records of trials that never were, where a formula takes the place of a model."""

from autoprune.recipe import Recipe
from autoprune.records import Measurement, Score, Success, TrialRecord


def made_up_record(recipe: Recipe, *, accuracy: float, latency_ms: float, reference_ms: float) -> TrialRecord:
    """A success with these numbers, without any noise; sizes in proportion to the latency."""
    measurement = Measurement(
        source="measured",
        runtime="fake",
        runtime_version="1",
        device="fake",
        precision=recipe.precision,
        batch=1,
        threads=1,
        n=9,
        median_ms=latency_ms,
        p90_ms=latency_ms,
        p99_ms=latency_ms,
        low_ms=latency_ms,
        high_ms=latency_ms,
        cv_percent=0,
    )
    score = Score(
        accuracy=accuracy,
        samples=100,
        latency=measurement,
        reference_ms=reference_ms,
        size_bytes=1 + int(1000 * latency_ms),
        macs=int(1000 * latency_ms),
        parameters=int(100 * latency_ms),
    )
    return TrialRecord(recipe=recipe, outcome=Success(score=score), finished_at="2026-01-01T00:00:00+00:00")
