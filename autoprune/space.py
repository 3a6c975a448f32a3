"""SearchSpace: all candidates, narrowed by the model's groups and the device. The only reader of ``search_spaces/``."""

from __future__ import annotations

import fnmatch
import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from statistics import median
from typing import Any, Literal, Protocol

from pydantic import Field, PositiveInt, field_validator, model_validator

from autoprune.documents import Strict, find_document, known_documents, read_yaml
from autoprune.errors import SpaceError
from autoprune.graph.groups import PruneGroup
from autoprune.hardware import Precision
from autoprune.recipe import RECOVERY_ORDER, Keep, Recipe

FOLDER = "search_spaces"


class Chooser(Protocol):
    """Answers the questions of a space; an Optuna ``Trial`` fits."""

    def suggest_int(self, name: str, low: int, high: int) -> int: ...

    def suggest_categorical(self, name: str, choices: Sequence[str]) -> str: ...


class KeepRange(Strict):
    """How much of a group may stay: ratios in (0, 1], at most ``levels`` of them, aligned to the channel multiple.

    With ``drop``, a droppable group may be dropped, as one more level.
    """

    min: float = Field(default=0.125, gt=0.0, le=1.0)
    max: float = Field(default=1.0, gt=0.0, le=1.0)
    levels: PositiveInt = 8
    drop: bool = True

    @model_validator(mode="after")
    def _ordered(self) -> KeepRange:
        if self.min > self.max:
            raise ValueError(f"min {self.min} is above max {self.max}")
        return self


class RecoverChoice(Strict):
    """One way to recover: methods in the order of ``RECOVERY_ORDER``, and epochs for those that train."""

    methods: tuple[Literal["lstsq", "bn", "finetune", "distil"], ...] = ()
    epochs: float = Field(default=0.0, ge=0.0)

    @model_validator(mode="after")
    def _trained(self) -> RecoverChoice:
        if self.trains and self.epochs == 0:
            raise ValueError(f"{' + '.join(self.methods)} needs epochs above 0")
        if not self.trains and self.epochs > 0:
            raise ValueError("epochs are of use with finetune or distil only")
        return self

    @property
    def trains(self) -> bool:
        """Whether it takes gradient steps."""
        return bool({"finetune", "distil"} & set(self.methods))

    @property
    def label(self) -> str:
        """A short name, such as ``lstsq+bn`` or ``distil(0.5)``."""
        text = "+".join(name for name in RECOVERY_ORDER if name in self.methods) or "none"
        return f"{text}({self.epochs:g})" if self.trains else text


class SearchSpace(Strict):
    """A space as its YAML file describes it, before it knows a model or a device.

    What is left out is as in the space ``default``.
    """

    name: str
    description: str
    keep: KeepRange = KeepRange()
    exclude: tuple[str, ...] = Field(default=(), description="group ids that stay whole; * and ? match")
    criterion: tuple[str, ...] = ("l2", "obs_l2")
    precision: tuple[Precision, ...] = ("fp32", "fp16", "int8")
    recover: tuple[RecoverChoice, ...] = (RecoverChoice(methods=("lstsq",)), RecoverChoice(methods=("lstsq", "bn")))
    channel_multiple: PositiveInt | Literal["target"] = "target"

    @field_validator("criterion", "precision", "recover")
    @classmethod
    def _distinct(cls, values: tuple[Any, ...]) -> tuple[Any, ...]:
        if not values:  # as min_length, pydantic would hide what is wrong with a first choice behind it
            raise ValueError("lists no choice")
        if len(set(values)) != len(values):
            raise ValueError("lists the same choice twice")
        return values

    def bind(
        self, groups: Sequence[PruneGroup], *, precisions: Sequence[Precision], channel_multiple: int, seed: int = 0
    ) -> BoundSpace:
        """Narrow the space to one model and one device.

        Raises:
            SpaceError: no group is left to prune and no precision to choose, or an ``exclude`` pattern matches nothing.
        """
        for pattern in self.exclude:
            if not any(fnmatch.fnmatchcase(group.id, pattern) for group in groups):
                raise SpaceError(f"Space '{self.name}': exclude '{pattern}' matches none of the model's groups.")
        multiple = channel_multiple if self.channel_multiple == "target" else self.channel_multiple
        levels = {group.id: self._levels(group, multiple) for group in groups}
        usable: tuple[Precision, ...] = tuple(p for p in self.precision if p in precisions)
        if not usable:
            raise SpaceError(
                f"Space '{self.name}' wants {' or '.join(self.precision)}, the target can do {', '.join(precisions)}."
            )
        return BoundSpace(
            space=self,
            sizes={group.id: group.size for group in groups},
            levels={name: kept for name, kept in levels.items() if len(kept) > 1},
            shared=_shared(groups),
            precisions=usable,
            channel_multiple=multiple,
            seed=seed,
        )

    def _levels(self, group: PruneGroup, multiple: int) -> tuple[int, ...]:
        """Unit counts that may stay, ascending, 0 to drop the group; ``(size,)`` when it stays whole."""
        if any(fnmatch.fnmatchcase(group.id, pattern) for pattern in self.exclude):
            return (group.size,)
        width = min(len(member.index[0]) for member in group.members)
        low, high = max(1, math.ceil(self.keep.min * group.size)), math.floor(self.keep.max * group.size)
        aligned = [n for n in range(low, high + 1) if n * width % multiple == 0]
        if self.keep.max == 1.0 and group.size not in aligned:
            aligned.append(group.size)
        none = (0,) if self.keep.drop and group.droppable else ()
        return *none, *_spread(aligned or [group.size], self.keep.levels)


def _shared(groups: Sequence[PruneGroup]) -> frozenset[str]:
    usual = median(len(group.members) for group in groups) if groups else 0
    return frozenset(group.id for group in groups if len(group.members) > 2 * usual)


def _spread(values: Sequence[int], count: int) -> list[int]:
    """At most ``count`` of the ascending ``values``, evenly spread, the last one always among them."""
    if len(values) <= count:
        return list(values)
    step = (len(values) - 1) / max(count - 1, 1)
    return sorted({values[len(values) - 1 - round(i * step)] for i in range(count)})


@dataclass(frozen=True)
class BoundSpace:
    """A space for one model and one device.

    Attributes:
        sizes: group id -> units in the dense model, of all groups.
        levels: group id -> unit counts that may stay, ascending, 0 to drop it; only groups that have a choice.
        shared: groups that far more layers share than is usual in this model, such as the stream of a residual network.
        channel_multiple: what kept widths are multiples of.
    """

    space: SearchSpace
    sizes: Mapping[str, int]
    levels: Mapping[str, tuple[int, ...]]
    shared: frozenset[str]
    precisions: tuple[Precision, ...]
    channel_multiple: int
    seed: int

    @property
    def log10_size(self) -> float:
        """Decimal logarithm of the number of recipes."""
        choices = len(self.space.criterion) * len(self.precisions) * len(self.space.recover)
        return math.log10(choices) + sum(math.log10(len(kept)) for kept in self.levels.values())

    def suggest(self, chooser: Chooser) -> Recipe:
        """Ask ``chooser`` for every free choice and make the recipe of the answers."""
        kept = {g: levels[chooser.suggest_int(f"keep/{g}", 0, len(levels) - 1)] for g, levels in self.levels.items()}
        recover = self._choose(chooser, "recover", [choice.label for choice in self.space.recover])
        return self.recipe(
            kept,
            criterion=self._choose(chooser, "criterion", self.space.criterion),
            precision=self._choose(chooser, "precision", self.precisions),
            recover=recover,
        )

    def _choose(self, chooser: Chooser, name: str, choices: Sequence[str]) -> str:
        return choices[0] if len(choices) == 1 else chooser.suggest_categorical(name, list(choices))

    def recipe(self, kept: Mapping[str, int], *, criterion: str, precision: str, recover: str) -> Recipe:
        """The canonical recipe: whole groups are left out, and with nothing cut there is nothing to rank or recover."""
        choices = {group: Keep(units=units) for group, units in kept.items() if units != self.sizes[group]}
        fields: dict[str, Any] = {"choices": choices, "precision": precision}
        if choices:
            how = next(choice for choice in self.space.recover if choice.label == recover)
            fields |= {"criterion": criterion, "recover": how.methods, "epochs": how.epochs, "seed": self.seed}
        return Recipe.model_validate(fields)

    def label(self, recipe: Recipe) -> str:
        """The label of the way to recover of a recipe of this space."""
        for how in self.space.recover:
            if (how.methods, how.epochs) == (recipe.recover, recipe.epochs):
                return how.label
        return self.space.recover[0].label

    def answers(
        self,
        kept: Mapping[str, int],
        *,
        precision: Precision,
        criterion: str | None = None,
        recover: str | None = None,
    ) -> dict[str, Any]:
        """What `suggest` has to be answered (parameter name -> value) for this recipe.

        ``kept`` are units of the groups that are cut, each one of its levels; criterion and recovery are the first of
        the space where they are not given.
        """
        found: dict[str, Any] = {
            f"keep/{group}": levels.index(kept.get(group, levels[-1])) for group, levels in self.levels.items()
        }
        for name, options, value in (
            ("criterion", self.space.criterion, criterion or self.space.criterion[0]),
            ("precision", self.precisions, precision),
            ("recover", self.space.recover, recover or self.space.recover[0].label),
        ):
            if len(options) > 1:
                found[name] = value
        return found

    def uniform(self, ratio: float, *, precision: Precision, whole: Collection[str] = ()) -> dict[str, Any]:
        """Answers that keep about ``ratio`` of every group, and all of those in ``whole``."""
        return self.answers(self.near(ratio, whole=whole), precision=precision)

    def near(self, ratio: float, *, whole: Collection[str] = ()) -> dict[str, int]:
        """For each group with a choice, its level nearest to ``ratio``, never none; all units of those in ``whole``."""
        kept = {}
        for group, levels in self.levels.items():
            wanted = self.sizes[group] * (1.0 if group in whole else ratio)
            kept[group] = min(filter(None, levels), key=lambda units: (abs(units - wanted), -units))
        return kept


def load_space(name: str) -> SearchSpace:
    """The space of that name, or the one in the file of that path.

    Raises:
        UsageError: no such space.
        DocumentError: the file breaks the schema; names file, line and field.
    """
    return read_yaml(find_document(name, FOLDER), SearchSpace)


def list_spaces() -> list[SearchSpace]:
    """Those that ship and those of installed packages, by name. Raises as `load_space`."""
    return [read_yaml(path, SearchSpace) for _, path in sorted(known_documents(FOLDER).items())]
