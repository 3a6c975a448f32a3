"""Ask, evaluate, tell: until every trial is done."""

import time
from collections import Counter, deque
from collections.abc import Collection, Iterable, Mapping, Sequence

import numpy as np

from autoprune.engine.observer import Observer, Status
from autoprune.engine.pipeline import Pipeline
from autoprune.engine.prepare import Prepared
from autoprune.engine.stopping import unmissed
from autoprune.errors import SearchError
from autoprune.evaluate import Evaluator, Screen
from autoprune.pareto import best, front
from autoprune.recipe import DENSE
from autoprune.records import Failure, Screened, TrialRecord
from autoprune.strategies import Search
from autoprune.study import Ledger, Question

SCREENED = 4
REPEATS = 100  # answers in a row that were all known already: the space is as good as exhausted
DRIFT_PERCENT = 10.0  # less is what a shared machine always does


def run_trials(
    prepared: Prepared,
    evaluator: Evaluator,
    ledger: Ledger,
    observer: Observer,
    *,
    search: Search,
    screen: Screen | None,
) -> None:
    """Try recipes until ``config.trials`` of them were tried in full, the dense model first.

    Candidates that are screened out cost little and do not count, but no more than ``SCREENED`` for each trial.
    """
    if "fp32" not in prepared.space.precisions and DENSE.id not in ledger.records:
        dense = evaluator.evaluate(DENSE)  # what everything is compared with, though the space does not have it
        check_dense(dense)
        ledger.keep(dense)
    ledger.enqueue(search.seeds())
    watch = Watch(prepared, ledger, observer)
    repeats = 0
    with unmissed() as check, Pipeline(evaluator, screen) as pipeline:
        while True:
            check()
            more = repeats < REPEATS and wanted(ledger.records, pipeline.recipes, prepared.config.trials)
            if more and not pipeline.full:
                question = ask(ledger, search, pipeline)
                known = question.recipe.id in ledger.records
                repeats = repeats + 1 if known or question.recipe.id in pipeline.recipes else 0
                pipeline.begin(question, known=known)
            elif pipeline:
                tell(pipeline, ledger, evaluator, watch)
            else:
                break
    if repeats >= REPEATS:
        observer.message(
            f"The space has no more than {len(ledger.records)} recipes that differ; the search ends early."
        )


def ask(ledger: Ledger, search: Search, pipeline: Pipeline) -> Question:
    """The search's next question; its number is the same after a resume as without the interruption."""
    search.learn(ledger.records, pending=tuple(pipeline.recipes.values()))
    number = ledger.answered + len(pipeline)
    return ledger.ask(search.sampler(number), None if ledger.waiting else search.propose(number))


def tell(pipeline: Pipeline, ledger: Ledger, evaluator: Evaluator, watch: "Watch") -> None:
    """Write down what became of the oldest question."""
    flight, record = pipeline.end(ledger.records)
    known = record.recipe.id in ledger.records
    if record.recipe == DENSE:
        check_dense(record)
    ledger.tell(flight.question, record)
    if flight.candidate and not known:
        members = front(ledger.records.values(), ledger.objectives)
        # the weights of the present front are kept, so that the finalists need not be trained again
        evaluator.keep({member.recipe.id for member in members}, flight.candidate)
        watch.saw(record, members)


def wanted(records: Mapping[str, TrialRecord], pending: Collection[str], trials: int) -> bool:
    """Whether there are to be more questions than those whose answers are pending."""
    on_their_way = len(set(pending) - records.keys())
    return tried(records.values()) + on_their_way < trials and len(records) + on_their_way < trials * (1 + SCREENED)


def tried(records: Iterable[TrialRecord]) -> int:
    """How many records are more than a screening."""
    return sum(not isinstance(record.outcome, Screened) for record in records)


class Watch:
    """Turns records into what an observer is told."""

    def __init__(self, prepared: Prepared, ledger: Ledger, observer: Observer) -> None:
        self.prepared, self.ledger, self.observer = prepared, ledger, observer
        self.started = self.last = time.monotonic()
        self.recent: deque[float] = deque(maxlen=8)
        self.warned = False

    def saw(self, record: TrialRecord, members: Sequence[TrialRecord]) -> None:
        """One more recipe was tried; these are on the front now."""
        now = time.monotonic()
        self.recent.append(now - self.last)
        self.last = now
        self.ledger.directory.note(
            "trial", recipe=record.recipe.id, outcome=record.outcome.status, stages=record.stages
        )
        self._warn_of_drift(record)
        self.observer.status(self.status(members))

    def status(self, members: Sequence[TrialRecord]) -> Status:
        """Where the search stands."""
        records, total = self.ledger.records, self.prepared.config.trials
        done = tried(records.values())
        todo = total - done + len(members) + 1  # a finalist costs about what a trial costs
        left = todo * float(np.mean(self.recent)) if self.recent else None
        return Status(
            done=done,
            total=total,
            failed=sum(isinstance(record.outcome, Failure) for record in records.values()),
            front_size=len(members),
            best=self._best(members),
            elapsed_s=self.last - self.started,
            seconds_left=left,
        )

    def _best(self, members: Sequence[TrialRecord]) -> str:
        """Of those on the front, the model that would be recommended now."""
        dense = self.ledger.records.get(DENSE.id)
        if dense is None or dense.score is None:
            return "-"
        goals = self.prepared.config.goals
        score = best(members, self.prepared.objectives, goals=goals, dense=dense.score).score
        if score is None:
            return "-"
        about = "an estimated " if score.latency.source == "estimated" else ""
        short = "" if goals.meets(score, dense.score) else ", which misses the goal"
        return f"{about}{score.speedup:.2f}x at {100 * score.accuracy:.2f} % (validation){short}"

    def _warn_of_drift(self, record: TrialRecord) -> None:
        dense = self.ledger.records.get(DENSE.id)
        if self.warned or dense is None or dense.score is None or record.score is None:
            return
        drift = 100 * (record.score.reference_ms / dense.score.reference_ms - 1)
        if abs(drift) > DRIFT_PERCENT:
            self.warned = True
            self.observer.message(
                f"The machine changed speed: the dense model, timed again, differs by {drift:+.1f} % from the start. "
                "Speed-ups stay fair, since every candidate is timed beside it."
            )


def check_dense(record: TrialRecord) -> None:
    """The dense model is what everything is compared with. Where it failed that is not kept: a resume tries it again.

    Raises:
        SearchError: it failed.
    """
    if isinstance(record.outcome, Failure):
        raise SearchError(f"The dense model itself failed ({record.outcome.stage}): {record.outcome.message}")


def check_candidates(records: Mapping[str, TrialRecord]) -> None:
    """Whether there is anything to show for the search besides the dense model.

    Raises:
        SearchError: every candidate failed, or every one that was cut lost most of the accuracy.
    """
    others = [record for record in records.values() if record.recipe.id != DENSE.id]
    failures = [record.outcome for record in others if isinstance(record.outcome, Failure)]
    if others and len(failures) == len(others):
        common = Counter(f"{failure.stage}: {failure.message}" for failure in failures).most_common(1)[0][0]
        raise SearchError(f"All {len(others)} candidates failed; most often in {common}")
    dense = records[DENSE.id].score
    cut = [record.score.accuracy for record in others if record.score and record.recipe.choices]
    if dense and cut and max(cut) < dense.accuracy / 2:
        raise SearchError(
            f"Every one of {len(cut)} cut candidates lost more than half of the dense model's accuracy "
            f"({max(cut):.3f} at best, {dense.accuracy:.3f} dense): raise keep.min in the space, or use one that "
            "trains ('--space fine-tune')."
        )
