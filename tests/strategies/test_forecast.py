"""What is forecast of recipes, and what the front is expected to gain."""

import numpy as np
import pytest
from scipy.integrate import quad
from scipy.stats import norm

from autoprune.strategies._box import Box
from autoprune.strategies._forecast import Forecast, expected_gain

LABELS = np.zeros((1, 3), dtype=np.int64)


def truth(points: np.ndarray) -> np.ndarray:
    """Accuracy falls with the summed damage; the third group matters twice as much as its damage says."""
    weights = np.array([1.0, 1.0, 2.0])
    return 0.95 - 0.2 * (points**2) @ weights


def known(count: int, seed: int = 0) -> tuple[np.ndarray, Forecast]:
    points = np.vstack([np.zeros(3), np.random.default_rng(seed).uniform(0, 0.6, (count - 1, 3))])
    return points, Forecast(points, LABELS.repeat(count, axis=0), truth(points))


def test_what_was_tried_is_met_and_sure() -> None:
    points, forecast = known(20)
    means, deviations = forecast.predict(points, LABELS.repeat(20, axis=0))
    assert means == pytest.approx(truth(points), abs=0.003)
    assert deviations.max() < 0.004


def test_it_learns_which_group_matters_more_and_knows_how_unsure_it_is() -> None:
    new = np.random.default_rng(9).uniform(0, 0.6, (200, 3))
    labels = LABELS.repeat(200, axis=0)
    few, many = known(8)[1].predict(new, labels), known(60)[1].predict(new, labels)
    errors = [np.abs(means - truth(new)) for means, _ in (few, many)]
    assert errors[1].mean() < errors[0].mean() / 2
    assert many[1].mean() < few[1].mean()
    assert np.mean(errors[0] < 3 * few[1]) > 0.9


def test_another_precision_is_alike_but_less_sure() -> None:
    points, forecast = known(20)
    other = LABELS.repeat(20, axis=0) + np.array([1, 0, 0])
    means, deviations = forecast.predict(points, other)
    same = forecast.predict(points, LABELS.repeat(20, axis=0))
    assert means == pytest.approx(same[0], abs=0.03)
    assert (deviations > same[1]).all()


def test_one_record_is_enough_to_begin() -> None:
    forecast = Forecast(np.zeros((1, 3)), LABELS, np.array([0.9]))
    means, deviations = forecast.predict(np.full((1, 3), 0.3), LABELS)
    assert np.isfinite(means).all()
    assert (deviations > 0).all()


def test_the_expected_gain_is_the_integral_over_the_forecast() -> None:
    front = [(0.3, 0.85), (0.6, 0.9)]
    shares, means, deviations = np.array([0.2, 0.5]), np.array([0.86, 0.89]), np.array([0.02, 0.03])

    def area(share: float, accuracy: float) -> float:
        steps = [(0.0, 0.3, 0.8), (0.3, 0.6, 0.85), (0.6, 1.0, 0.9)]
        return sum(max(end - max(start, share), 0) * max(accuracy - step, 0) for start, end, step in steps)

    for n, gain in enumerate(expected_gain(front, shares, means, deviations, box=Box(least=0.8))):
        wanted, _ = quad(lambda a, n=n: area(shares[n], a) * norm.pdf(a, means[n], deviations[n]), 0.4, 1.4)
        assert gain == pytest.approx(wanted, rel=1e-4)


def test_beyond_what_counts_nothing_is_gained() -> None:
    shares, means, deviations = np.array([0.5]), np.array([0.9]), np.array([0.02])
    open_ended = expected_gain([], shares, means, deviations, box=Box(least=0.8))
    capped = expected_gain([], shares, means, deviations, box=Box(least=0.8, most=0.9))
    wanted, _ = quad(lambda a: 0.5 * (min(a, 0.9) - 0.8) * norm.pdf(a, 0.9, 0.02), 0.8, 1.0)
    assert capped[0] == pytest.approx(wanted, rel=1e-3)
    assert capped[0] < open_ended[0]
    assert expected_gain([(0.1, 0.95)], shares, means, deviations, box=Box(least=0.8, most=0.9))[0] == 0


def test_latency_counts_between_the_edges_of_the_box() -> None:
    """As by areas counted on a grid, for fronts that begin before the box, in it and behind it."""
    box, mean, deviation = Box(least=0.8, most=0.95, fastest=0.3, slowest=0.5), np.array([0.9]), np.array([1e-9])
    grid = np.linspace(0.3, 0.5, 20001)
    for front in ([], [(0.1, 0.82), (0.35, 0.86)], [(0.2, 0.85), (0.25, 0.93)], [(0.4, 0.92), (0.7, 0.94)]):
        for share in (0.2, 0.35, 0.45, 0.6):
            before = np.full(len(grid), 0.8)
            for start, accuracy in front:
                before[grid >= start] = accuracy
            gain = np.where(grid >= share, np.maximum(0.9 - before, 0), 0).mean() * 0.2
            found = expected_gain(front, np.array([share]), mean, deviation, box=box)
            assert found[0] == pytest.approx(gain, abs=1e-5), (front, share)


def test_what_is_slower_than_the_dense_model_gains_nothing() -> None:
    assert expected_gain([], np.array([1.1]), np.array([0.99]), np.array([0.01]), box=Box()) == pytest.approx(0)
