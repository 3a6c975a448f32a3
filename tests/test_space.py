"""Recipes and the spaces they come from."""

import dataclasses
from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from autoprune.documents import parse_yaml
from autoprune.errors import DocumentError, SpaceError
from autoprune.graph.groups import PruneGroup, Slice
from autoprune.hardware import Precision
from autoprune.recipe import DENSE, Keep, Recipe
from autoprune.space import BoundSpace, KeepRange, RecoverChoice, SearchSpace, list_spaces, load_space


def group(name: str, size: int, width: int = 1) -> PruneGroup:
    index = tuple(tuple(range(u * width, (u + 1) * width)) for u in range(size))
    return PruneGroup(
        id=name, kind="channel", size=size, members=(Slice(f"{name}.weight", 0, index),), macs=1, exact=True
    )


def bound(space: SearchSpace, *groups: PruneGroup, multiple: int = 8) -> BoundSpace:
    return space.bind(groups, precisions=("fp32", "int8"), channel_multiple=multiple)


SPACE = SearchSpace(
    name="test",
    description="",
    keep=KeepRange(min=0.25, drop=False),
    criterion=("l1", "l2"),
    recover=(RecoverChoice(), RecoverChoice(methods=("distil",), epochs=1)),
)


class Always:
    """Answers every question with its lowest or its highest choice."""

    def __init__(self, *, highest: bool) -> None:
        self.highest = highest

    def suggest_int(self, name: str, low: int, high: int) -> int:
        return high if self.highest else low

    def suggest_categorical(self, name: str, choices: Sequence[str]) -> str:
        return choices[-1] if self.highest else choices[0]


def test_the_id_depends_on_content_alone() -> None:
    one = Recipe(choices={"a": Keep(units=1), "b": Keep(units=2)})
    two = Recipe(choices={"b": Keep(units=2), "a": Keep(units=1)})
    assert one.id == two.id != DENSE.id
    assert Recipe.model_validate_json(one.model_dump_json()).id == one.id


def test_recovery_has_one_order() -> None:
    assert Recipe(recover=("bn", "lstsq")) == Recipe(recover=("lstsq", "bn"))
    with pytest.raises(ValidationError, match="unknown recovery"):
        Recipe(recover=("prayer",))


def test_levels_are_multiples_of_what_pays() -> None:
    assert bound(SPACE, group("a", 64)).levels["a"] == (16, 24, 32, 40, 48, 56, 64)
    assert bound(SPACE, group("a", 64), multiple=16).levels["a"] == (16, 32, 48, 64)


def test_a_unit_of_several_channels_counts_as_such() -> None:
    assert bound(SPACE, group("heads", 12, width=4), multiple=16).levels["heads"] == (4, 8, 12)


def test_a_group_that_cannot_be_aligned_stays_whole() -> None:
    assert "a" not in bound(SPACE, group("a", 12), multiple=16).levels


def test_excluded_groups_stay_whole() -> None:
    space = SPACE.model_copy(update={"exclude": ("stem*",)})
    assert set(bound(space, group("stem.conv", 64), group("b", 64)).levels) == {"b"}
    with pytest.raises(SpaceError, match="'stem\\*' matches none"):
        bound(space, group("b", 64))


def test_a_device_without_the_precision_is_refused() -> None:
    space = SPACE.model_copy(update={"precision": ("int8",)})
    with pytest.raises(SpaceError, match="wants int8, the target can do fp32"):
        space.bind([group("a", 64)], precisions=("fp32",), channel_multiple=8)


@pytest.mark.parametrize(
    ("can", "left"),
    [
        (("fp32", "int8"), ("fp32", "int8")),
        (("fp32", "fp16"), ("fp32", "fp16")),
        (("int8", "fp16", "fp32"), ("fp32", "fp16", "int8")),
        (("fp32",), ("fp32",)),
    ],
)
def test_shipped_spaces_take_the_precisions_that_the_device_has(
    can: tuple[Precision, ...], left: tuple[Precision, ...]
) -> None:
    for space in list_spaces():
        assert space.bind([group("a", 64)], precisions=can, channel_multiple=8).precisions == left


def test_keeping_everything_is_the_dense_recipe_whatever_else_is_answered() -> None:
    space = SPACE.model_copy(update={"precision": ("fp32",)})
    seeded = space.bind([group("a", 64)], precisions=("fp32",), channel_multiple=8, seed=7)
    assert seeded.suggest(Always(highest=True)).id == DENSE.id


def test_the_lowest_answers_keep_least() -> None:
    recipe = bound(SPACE, group("a", 64), group("b", 32)).suggest(Always(highest=False))
    assert {name: keep.units for name, keep in recipe.choices.items()} == {"a": 16, "b": 8}
    assert (recipe.criterion, recipe.precision, recipe.recover) == ("l1", "fp32", ())


def test_uniform_answers_can_leave_shared_groups_whole() -> None:
    one = group("stream", 64)
    stream = dataclasses.replace(one, members=one.members * 9)
    space = bound(SPACE, stream, group("a", 64), group("b", 64))
    assert space.shared == {"stream"}
    answers = space.uniform(0.5, precision="fp32", whole=space.shared)
    kept = {name: space.levels[name][answers[f"keep/{name}"]] for name in space.levels}
    assert kept == {"stream": 64, "a": 32, "b": 32}


def test_a_droppable_group_may_be_dropped_as_one_more_level() -> None:
    space = SPACE.model_copy(update={"keep": KeepRange(levels=2, drop=True)})
    inner = dataclasses.replace(group("inner", 64), droppable=True)
    odd = dataclasses.replace(group("odd", 12), droppable=True)
    found = bound(space, inner, odd, group("stream", 64), multiple=16)
    assert found.levels == {"inner": (0, 16, 64), "odd": (0, 12), "stream": (16, 64)}
    assert bound(SPACE, inner, multiple=16).levels["inner"][0] == 16
    recipe = found.suggest(Always(highest=False))
    assert recipe.choices == {"inner": Keep(units=0), "odd": Keep(units=0), "stream": Keep(units=16)}
    assert Recipe.model_validate_json(recipe.model_dump_json()).id == recipe.id
    excluded = space.model_copy(update={"exclude": ("odd",)})
    assert "odd" not in bound(excluded, inner, odd, multiple=16).levels
    with pytest.raises(ValidationError):
        Keep(units=-1)


@given(st.integers(1, 300), st.integers(1, 8), st.integers(1, 32), st.floats(0.05, 1.0), st.integers(1, 12))
def test_levels_are_possible_ascending_and_few(size: int, width: int, multiple: int, low: float, levels: int) -> None:
    space = SPACE.model_copy(update={"keep": KeepRange(min=low, levels=levels)})
    kept = bound(space, group("a", size, width), multiple=multiple).levels.get("a", (size,))
    assert kept[-1] <= size
    assert list(kept) == sorted(set(kept))
    assert len(kept) <= max(levels, 1)
    assert all(n >= 1 and (n == size or n * width % multiple == 0) for n in kept)


def test_what_a_space_leaves_out_is_as_in_the_one_that_ships() -> None:
    shipped = load_space("default")
    assert SearchSpace(name=shipped.name, description=shipped.description) == shipped


def test_the_size_of_the_space_counts_recipes() -> None:
    assert bound(SPACE, group("a", 64)).log10_size == pytest.approx(1.748, abs=1e-3)  # 7 levels x 2 x 2 x 2 = 56


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("keep: {min: 0.9, max: 0.5}", "space.yaml:3: keep"),
        ("criterion: []", "space.yaml:3: criterion"),
        ("precision: [int4]", "space.yaml:3: precision.0"),
        ("recover:\n  - methods: [distil]", "space.yaml:4: recover.0"),
        ("recover:\n  - methods: [bn]\n    epochs: 2", "space.yaml:4: recover.0"),
        ("criterion: [l1, l1]", "twice"),
    ],
)
def test_a_bad_space_is_named_with_line_and_field(text: str, said: str) -> None:
    with pytest.raises(DocumentError) as caught:
        parse_yaml(f"name: x\ndescription: y\n{text}\n", SearchSpace, origin="space.yaml")
    assert said in str(caught.value)
