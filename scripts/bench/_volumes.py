"""Hypervolumes of searches, over evaluations and over seconds."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
from _bench import Bench, interval

from autoprune.pareto import hypervolume
from autoprune.recipe import DENSE
from autoprune.records import TrialRecord

COUNTS = (10, 15, 20, 30, 40, 60, 100, 150, 200, 300, 400, 600)
FIRST = 20  # evaluations, from which on the leads count
CORNER = 0.10  # below the dense accuracy
WITHIN = "-within-"  # between a strategy and the accuracy that its goal allows to lose
PATIENT = ("tpe", "nsga2")  # get ten times the evaluations
Point = dict[str, Any]
Curve = tuple[list[float], list[float]]


def points(records: Iterable[TrialRecord]) -> list[Point]:
    """Seconds of every record; recipe, accuracy and share of those that were scored."""
    return [
        {
            "seconds": round(sum(record.stages.values()), 4),
            "recipe": record.recipe.id,
            "accuracy": round(record.score.accuracy, 6) if record.score else None,
            "share": round(1 / record.score.speedup, 6) if record.score else None,
            "dense": record.recipe == DENSE,
        }
        for record in records
    ]


def rising(found: Sequence[Point]) -> Iterator[Point]:
    """Those that were on the front, in the box, when they came: better in something than each that came before."""
    dense = _dense(found)
    best: list[tuple[float, float]] = [(dense - CORNER, 0.0), (dense, 1.0)]
    for point in found:
        if (accuracy := point["accuracy"]) is not None:
            accuracy, share = min(accuracy, dense), point["share"]
            if not any(other >= accuracy and faster <= share for other, faster in best):
                best.append((accuracy, share))
                yield point


def curve(found: Mapping[str, Any]) -> Curve:
    """Hypervolume and seconds after each evaluation in full."""
    dense, on_front = _dense(found["points"]), {id(point) for point in rising(found["points"])}
    volumes, seconds, spent, seen = [], [], found["tables_s"], []
    for point in found["points"]:
        spent += point["seconds"]
        if point["accuracy"] is not None:
            if id(point) in on_front:
                seen.append((1 - min(point["accuracy"], dense), point["again"]))
            volumes.append(hypervolume(seen, (1 - dense + CORNER, 1.0)) / CORNER)
            seconds.append(spent)
    return volumes, seconds


def _dense(found: Sequence[Point]) -> float:
    """Its accuracy."""
    return next(float(point["accuracy"]) for point in found if point["dense"])


def compared(bench: Bench, model: str, recovery: str, found: Mapping[str, Sequence[Mapping[str, Any]]]) -> None:
    """Rows of all strategies, and how `guided` stands to those that were patient."""
    curves = {name: [curve(one) for one in runs] for name, runs in found.items()}
    for name, several in curves.items():
        at = {f"at_{n}": told([volumes[n - 1] for volumes, _ in several if len(volumes) >= n]) for n in COUNTS}
        bench.row(
            model=model,
            recovery=recovery,
            strategy=name,
            seeds=len(several),
            tables_s=round(found[name][0]["tables_s"], 1),
            seconds=round(float(np.mean([seconds[-1] for _, seconds in several]))),
            **{key: text for key, text in at.items() if text},
        )
    for rival in PATIENT:
        if rival in curves and "guided" in curves:
            against(bench, f"{model} {recovery}: guided", rival, curves["guided"], curves[rival])
    for name in found:
        if drop := name.partition(WITHIN)[2]:
            within(bench, f"{model} {recovery}: fastest that loses {drop} at most", name, found, drop=float(drop))


def within(
    bench: Bench, title: str, ours: str, found: Mapping[str, Sequence[Mapping[str, Any]]], *, drop: float
) -> None:
    """How much faster the fastest model of one strategy that loses no more is than that of each other."""
    speedups = {name: [speedup_within(one["points"], drop) for one in runs] for name, runs in found.items()}
    means = {name: float(np.mean(several)) for name, several in speedups.items()}
    for name, several in speedups.items():
        bench.say(f"{title}: {name} {told(several)}")
    for name in [other for other in found if other != ours]:
        bench.figure(f"{title}: {ours} / {name}", means[ours] / means[name], goal=">= 1")


def speedup_within(found: Sequence[Point], drop: float) -> float:
    """Of the fastest that was on the front when it came and loses no more."""
    least = _dense(found) - drop
    return 1 / min([1.0, *(point["again"] for point in rising(found) if point["accuracy"] >= least)])


def against(bench: Bench, title: str, rival: str, ours: Sequence[Curve], theirs: Sequence[Curve]) -> None:
    """The hypervolume at the end of both, the least lead at any count from 20 on, the seconds.

    Searches are of several sittings, so the seconds are told as they were and with the pace of `ours` for all.
    """
    our_mean, their_mean = mean(ours), mean(theirs)
    our, their = our_mean[0], their_mean[0]
    end, long = len(our), len(their)
    bench.figure(f"{title} at {end} / {rival} at {long}, hypervolume", float(our[-1] / their[-1]), goal=">= 1")
    if leads := [float(our[n] / their[n]) for n in range(FIRST - 1, min(end, long))]:
        bench.figure(f"{title} / {rival} at the worst count from {FIRST} on", min(leads), goal=">= 1")
    level = min(our[-1], their[-1])
    pace = (our_mean[1][-1] - our_mean[1][0]) / max(end - 1, 1)  # of an evaluation, without tables
    goal = ">= 5" if long > end else None  # nothing is promised where the rival was not patient
    for other, label in ((their_mean, ""), ((their, [pace * n for n in range(1, long + 1)]), ", were that as fast")):
        sooner = reached(other, level) / reached(our_mean, level)
        bench.figure(f"{title}, times sooner than {rival} at {level:.4f}{label}", sooner, goal=goal)


def mean(several: Sequence[Curve]) -> Curve:
    """Means over seeds, after each count that all have reached: a seed that never gets to a level holds it back."""
    end = min(len(volumes) for volumes, _ in several)
    volumes, seconds = (np.mean([one[part][:end] for one in several], axis=0).tolist() for part in (0, 1))
    return volumes, seconds


def reached(one: Curve, level: float) -> float:
    """Seconds until the hypervolume is ``level``, which it is at the end."""
    volumes, seconds = one
    return next(at for volume, at in zip(volumes, seconds, strict=True) if volume >= level)


def told(values: Sequence[float]) -> str:
    """Mean and 95 % interval over seeds."""
    if not values:
        return ""
    mean, half = interval(values)
    return f"{mean:.4f}" if half is None else f"{mean:.4f} ±{half:.4f}"
