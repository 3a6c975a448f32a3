"""Numbers and findings in words, the same in every report."""

import shlex
from collections.abc import Iterable

from autoprune.pareto import KEPT, Goals, first_cost, keeps_enough
from autoprune.recipe import Recipe
from autoprune.records import Measurement, Score
from autoprune.report.data import Finalist, RunReport

MINUS, TIMES, NBSP, ABOUT, AT_MOST = "\u2212", "\u00d7", "\u00a0", "\u2248", "\u2264"


def milliseconds(ms: float) -> str:
    """``0.794``: three figures or more, down to a tenth of a microsecond."""
    decimals = 4 if ms < 0.1 else 3 if ms < 10 else 2 if ms < 100 else 1
    return f"{ms:.{decimals}f}"


def latency(found: Measurement) -> str:
    """``0.794 ms``; ``≈0.794 ms`` where it is an estimate."""
    return f"{_about(found)}{milliseconds(found.median_ms)} ms"


def speedup(score: Score) -> str:
    """Against the dense model; marked where it is that of an estimate."""
    return f"{_about(score.latency)}{times(score.speedup)}"


def noise(latency: Measurement) -> str:
    """``±0.4 %``: half of the interval as a share of the median; of an estimate, the factor it may be off by."""
    if latency.error_factor is not None:
        return f"{AT_MOST}{latency.error_factor:.1f}{TIMES}"
    return f"±{50 * (latency.high_ms - latency.low_ms) / latency.median_ms:.1f}{NBSP}%"


def intervals(latencies: Iterable[Measurement]) -> str:
    """What the intervals of these are."""
    settled, fastest = "95 % intervals of the median", "the ranges of the fastest runs"
    kinds = {latency.unsettled for latency in latencies}
    if len(kinds) > 1:
        return f"{settled} or, of what did not settle, {fastest}"
    return fastest if kinds == {True} else settled


def percent(accuracy: float) -> str:
    """``92.58 %``."""
    return f"{100 * accuracy:.2f}{NBSP}%"


def points(drop: float) -> str:
    """``+0.34`` for a gain of 0.0034: hundredths of the metric, signed."""
    return "0.00" if abs(drop) < 5e-5 else f"{-100 * drop:+.2f}".replace("-", MINUS)


def times(speedup: float) -> str:
    """``2.45`` and a multiplication sign."""
    return f"{speedup:.2f}{TIMES}"


def energy(mj: float) -> str:
    """``4.52 mJ``."""
    return f"{mj:.3g}{NBSP}mJ"


def size(count: float) -> str:
    """``1.09 MB``."""
    return _scaled(count, ("B", "kB", "MB", "GB", "TB"))


def number(count: float) -> str:
    """``40.6 M``."""
    return _scaled(count, ("", "k", "M", "G", "T")).rstrip()


def duration(seconds: float) -> str:
    """``1 h 22 min``."""
    minutes = round(seconds / 60)
    if minutes < 1:
        return f"{seconds:.0f} s"
    return f"{minutes} min" if minutes < 60 else f"{minutes // 60} h {minutes % 60} min"


def headline(report: RunReport) -> str:
    """The result in one sentence."""
    chosen, dense = report.chosen, report.dense
    so_far = "" if report.finished else ", so far"
    if chosen.recipe.id == dense.recipe.id:
        return f"No smaller model of {report.task} is faster on {report.target} and accurate enough{so_far}."
    price = _price(dense.score.accuracy - chosen.score.accuracy)
    how = "an estimated " if chosen.score.latency.source == "estimated" else ""
    uncut = "" if chosen.recipe.choices else f", in {chosen.recipe.precision.upper()} with nothing cut"
    return f"{report.task} runs {how}{times(chosen.score.speedup)} as fast on {report.target} {price}{uncut}{so_far}."


def plan(report: RunReport) -> str:
    """What estimates are worth and the command that measures; empty where nothing is estimated."""
    found = report.dense.score.latency
    if found.source != "estimated" or found.error_factor is None:
        return ""
    return (
        f"Nothing was measured on {report.target}: latencies are estimated from its data sheet, and may be off by "
        f"{found.error_factor:.1f}{TIMES} either way. With the device at hand: {measure_command(report)}"
    )


def measure_command(report: RunReport) -> str:
    """Turns the estimates of a run into measurements."""
    return f"autoprune measure {shlex.quote(report.directory)} --connect ssh://user@host"


def verdict(report: RunReport) -> str:
    """Whether the goals are met, or why this model was chosen without any; empty where there was no choice."""
    if report.goals == Goals():
        return _unasked(report)
    if not report.misses:
        return f"The chosen model meets every goal: {', '.join(wishes(report.goals))}."
    return f"No model meets every goal ({', '.join(wishes(report.goals))}). The nearest {' and '.join(report.misses)}."


def _unasked(report: RunReport) -> str:
    chosen, dense, cost = report.chosen, report.dense, first_cost(report.objectives)
    if chosen.recipe.id == dense.recipe.id:
        return ""
    share = f"{100 * KEPT:g}{NBSP}%"
    if not keeps_enough(chosen.score.accuracy, dense.score.accuracy):
        return f"No smaller model keeps {share} of the accuracy; the chosen one is the most accurate of them."
    least = "is the fastest" if cost.name == "latency_ms" else f"has the least {cost.name}"
    return f"The chosen model {least} that keeps {share} of the accuracy; --max-accuracy-drop asks for another."


def wishes(goals: Goals) -> list[str]:
    """The goals, each in words."""
    found = []
    if goals.max_accuracy_drop is not None:
        drop = 100 * goals.max_accuracy_drop
        found.append(f"lose at most {drop:g} {'point' if drop == 1 else 'points'} of accuracy")
    if goals.max_latency_ms is not None:
        found.append(f"take at most {goals.max_latency_ms:g} ms")
    if goals.min_speedup is not None:
        found.append(f"run at least {goals.min_speedup:g}{TIMES} as fast")
    return found


def recipe(made: Recipe) -> str:
    """What a recipe does: ``12 groups cut by l2, then lstsq and bn, int8``."""
    if not made.choices:
        return f"uncut, {made.precision}"
    cut = "1 group" if len(made.choices) == 1 else f"{len(made.choices)} groups"
    then = f", then {' and '.join(made.recover)}" if made.recover else ""
    return f"{cut} cut by {made.criterion}{then}, {made.precision}"


def label(member: Finalist, report: RunReport) -> str:
    """What sets a model apart: it is the chosen one, or uncut, or both."""
    chosen = ["chosen"] if member.recipe.id == report.chosen.recipe.id else []
    return ", ".join([*chosen, *([] if member.recipe.choices else ["dense"])])


def _about(latency: Measurement) -> str:
    return ABOUT if latency.source == "estimated" else ""


def _price(drop: float) -> str:
    if abs(drop) < 5e-5:
        return "at the same accuracy"
    return f"and {'loses' if drop > 0 else 'gains'} {abs(100 * drop):.2f} points of accuracy"


def _scaled(count: float, units: tuple[str, ...]) -> str:
    place = 0
    while abs(count) >= 999.5 and place < len(units) - 1:
        count, place = count / 1000, place + 1
    decimals = 0 if place == 0 or count >= 99.95 else 1 if count >= 9.995 else 2
    return f"{count:.{decimals}f}{NBSP}{units[place]}"
