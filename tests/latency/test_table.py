"""A table in words."""

import pytest

from autoprune.latency import Cell, LatencyTable
from autoprune.report import saved


@pytest.mark.parametrize(
    ("dense_ms", "text"), [(0.224, "16: 0.0672 ±0.0022"), (2.32, "16: 0.696 ±0.023"), (150.0, "16: 45.0 ±1.5")]
)
def test_savings_have_the_decimals_that_the_model_needs(dense_ms: float, text: str) -> None:
    table = LatencyTable(
        task="t", target="cpu", key="k", circumstances={}, dense_ms=dense_ms, tables={}, observations=(), seconds=0
    )
    assert saved(Cell(units=16, saves=0.3, low=0.29, high=0.31, pays=True), table) == text
