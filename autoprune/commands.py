"""Command lines of a hardware profile: how a device is used that only programs of this machine know how to use."""

import re
import warnings
from collections.abc import Mapping
from string import Formatter
from typing import Annotated, Any, Literal, Self

from pydantic import AfterValidator, BeforeValidator, Field, PositiveFloat, StringConstraints, model_validator

from autoprune.documents import Strict

DEVICE = frozenset({"address", "tool"})
MODEL = DEVICE | {"artifact", "name"}
CALL = MODEL | {"inputs", "threads", "batch", "timeout"}
PLACEHOLDERS = {
    "setup": DEVICE,
    "push": MODEL | {"inputs"},
    "run": CALL | {"runs"},
    "predict": CALL | {"outputs"},
    "remove": DEVICE | {"name"},
    "facts": DEVICE,
    "conditions": DEVICE,
    "hold_clocks": DEVICE,
    "release_clocks": DEVICE,
}
SECONDS = {"s": 1.0, "ms": 1e-3, "us": 1e-6, "ns": 1e-9}
STEP = re.compile(r"(?=.)([\w-]*)((?:\[(?:\d{1,9}|\*)\])*)")  # of a path into JSON
FLAGS = re.compile(r"\(\?[aiLmsux-]")

Argument = Annotated[str, StringConstraints(min_length=1, max_length=4000, pattern=r"^[^\x00]+$")]
Line = Annotated[tuple[Argument, ...], Field(min_length=1, max_length=100)]
Name = Annotated[str, StringConstraints(pattern=r"^\w[\w.-]{0,79}$")]


def _lines(value: Any) -> Any:
    """One line may be written without the list around it."""
    one = isinstance(value, list | tuple) and value and not any(isinstance(part, list | tuple) for part in value)
    return [value] if one else value


Lines = Annotated[tuple[Line, ...], BeforeValidator(_lines), Field(max_length=20)]


def _pattern(pattern: str) -> str:
    if FLAGS.search(pattern):
        raise ValueError("a pattern has no flags; it is multi-line, so that ^ and $ are ends of lines")
    try:
        with warnings.catch_warnings(action="error"):
            groups = re.compile(pattern, re.M).groups
    except (re.error, RecursionError, OverflowError, Warning) as error:
        raise ValueError(f"not a regular expression: {error}") from error
    if groups != 1:
        raise ValueError("a pattern has one pair of parentheses, around the number; write others as (?:...)")
    return pattern


def _path(path: str) -> str:
    if not all(STEP.fullmatch(step) for step in path.split(".")):
        raise ValueError("a path looks like results.times_ms[*] or runs[0].mean")
    return path


class Reading(Strict):
    """Where the latency stands in what ``run`` prints: by a pattern in its output, or by a path into its JSON."""

    pattern: Annotated[str, Field(max_length=300), AfterValidator(_pattern)] | None = Field(
        default=None, description="regular expression with one group, the number"
    )
    json_path: Annotated[str, Field(max_length=300), AfterValidator(_path)] | None = Field(
        default=None,
        description="into the JSON that is printed, all of it or its last line; [*] stands for every element",
    )
    unit: Literal["s", "ms", "us", "ns"]
    gives: Literal["each", "mean", "median"] = Field(
        description="every one of the {runs} durations, or one figure over them; of several matches the last hold"
    )

    @model_validator(mode="after")
    def _one_way(self) -> Self:
        if (self.pattern is None) == (self.json_path is None):
            raise ValueError("give either a pattern or a json_path")
        return self


class Commands(Strict):
    """Argument lists, or lists of argument lists, with placeholders such as ``{name}``; no shell sees them here."""

    format: Literal["onnx", "tflite", "executorch"] = Field(default="onnx", description="of the models it takes")
    tool: str = Field(default="", description="a file of this machine that 'setup' sends, as {tool}")
    setup: Lines = Field(default=(), description="once, before the device is used")
    push: Lines = Field(default=(), description="sends a model: the file {artifact}, to be known as {name}")
    run: Lines = Field(min_length=1, description="times {runs} inferences; what the last line prints is parsed")
    parse: Reading
    predict: Lines = Field(default=(), description="computes {outputs} of {inputs}; without it parity is checked here")
    remove: Lines = Field(default=(), description="removes the model {name}")
    facts: dict[Name, Line] = Field(default_factory=dict, description="print what the device is and must remain")
    conditions: dict[Name, Line] = Field(default_factory=dict, description="print what drifts: clocks, temperature")
    hold_clocks: Lines = Field(default=(), description="makes clocks steady, where --allow-clock-control is given")
    release_clocks: Lines = Field(default=(), description="gives them back; run however the measuring ends")
    timeout_s: PositiveFloat = Field(default=60.0, le=86400, description="after which a command is killed")

    @model_validator(mode="after")
    def _known_placeholders(self) -> Self:
        for step, known in PLACEHOLDERS.items():
            for argument in (argument for line in self.lines(step) for argument in line):
                _check(argument, step, known)
        if self.parse.gives != "mean" and not self.uses("run", "runs"):
            raise ValueError("run: needs {runs}, how often the model is to be run")
        if bool(self.hold_clocks) != bool(self.release_clocks):
            raise ValueError("hold_clocks and release_clocks: one needs the other, as what is held is given back")
        return self

    def lines(self, step: str) -> tuple[tuple[str, ...], ...]:
        """The argument lists of one step."""
        found: Any = getattr(self, step)
        return tuple(found.values()) if isinstance(found, dict) else found

    def uses(self, step: str, placeholder: str) -> bool:
        """Whether the placeholder stands in a line of that step."""
        return any(placeholder in _fields(argument) for line in self.lines(step) for argument in line)


def _fields(argument: str) -> list[str]:
    return [field for _, field, _, _ in Formatter().parse(argument) if field is not None]


def _check(argument: str, step: str, known: frozenset[str]) -> None:
    """Raises ValueError: an argument has a placeholder that its step does not fill, or braces that do not match."""
    try:
        parts = list(Formatter().parse(argument))
    except ValueError as error:
        raise ValueError(f"{step}: {argument[:200]!r}: {error}; a brace itself is written twice") from error
    for _, field, detail, conversion in parts:
        if field is not None and (field not in known or detail or conversion):
            written = "{" + field + "}"
            raise ValueError(f"{step}: unknown placeholder {written[:200]!r}; known are {', '.join(sorted(known))}")


def filled(line: tuple[str, ...], values: Mapping[str, str]) -> list[str]:
    """The argument list with the placeholders' values in place."""
    return [
        "".join(text + (values[field] if field is not None else "") for text, field, _, _ in Formatter().parse(part))
        for part in line
    ]
