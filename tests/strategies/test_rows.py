"""Recipes as rows of numbers and back."""

import numpy as np

from autoprune.strategies._rows import Rows
from tests.study.toy import GROUPS, SPACE

ROWS = Rows(SPACE)


def test_there_and_back() -> None:
    recipe = SPACE.recipe({"a": 16, "c": 40}, criterion="l2", precision="int8", recover="none")
    row = ROWS.of([recipe])[0]
    assert ROWS.recipe(row) == recipe
    assert ROWS.units(row[None])[0].tolist() == [16, 64, 40, 64]


def test_one_step_around_stays_in_the_space() -> None:
    whole = SPACE.recipe({}, criterion="l2", precision="fp32", recover="none")
    row = ROWS.of([whole])
    around = ROWS.around(row)
    assert len(around) == len(GROUPS) + 1  # each group one level down, the other precision
    assert (np.abs(around - row).sum(axis=1) == 1).all()
    assert {ROWS.recipe(one).id for one in around}.isdisjoint({whole.id})


def test_every_row_with_every_label() -> None:
    row = ROWS.of([SPACE.recipe({"a": 16}, criterion="l2", precision="fp32", recover="none")])
    assert ROWS.labelled(row).tolist() == row.tolist()
    wider = SPACE.space.model_copy(update={"criterion": ("l2", "l1", "taylor")}).bind(
        GROUPS, precisions=("fp32",), channel_multiple=8
    )
    assert [ROWS.recipe(one).criterion for one in ROWS.labelled(row)] == ["l2"]
    assert [Rows(wider).recipe(one).criterion for one in Rows(wider).labelled(row)] == ["l2", "l1", "taylor"]
