"""Options that several commands share."""

from pathlib import Path
from typing import Annotated

import typer

from autoprune.errors import UsageError

TaskOption = Annotated[
    str, typer.Option("--task", help="A built-in task (see 'autoprune tasks'), or FILE.py[:FUNCTION].", metavar="TASK")
]
TaskOptions = Annotated[
    list[str] | None,
    typer.Option("--option", "-o", help="An option of the task; may be repeated.", metavar="KEY=VALUE"),
]
TargetOption = Annotated[str, typer.Option("--target", help="A device (see 'autoprune targets'), or a .yaml file.")]
ConnectOption = Annotated[
    list[str] | None,
    typer.Option(
        "--connect",
        help="The way to the device, in place of the profile's; several for identical devices.",
        metavar="ssh://USER@HOST",
    ),
]
ClocksOption = Annotated[
    bool,
    typer.Option(
        "--allow-clock-control", help="Hold the device's clocks still meanwhile; they are given back afterwards."
    ),
]
SpaceOption = Annotated[str, typer.Option("--space", help="A search space (see 'autoprune spaces'), or a .yaml file.")]
JsonOption = Annotated[bool, typer.Option("--json", help="Print JSON on standard output.")]
RunArgument = Annotated[Path, typer.Argument(help="A run directory.", metavar="RUN")]


def key_values(pairs: list[str] | None) -> dict[str, str]:
    """``["a=1"]`` as ``{"a": "1"}``.

    Raises:
        UsageError: a pair without ``=``, or a key given twice.
    """
    found: dict[str, str] = {}
    for pair in pairs or []:
        key, equals, value = pair.partition("=")
        if not equals or not key:
            raise UsageError(f"Option '{pair}' is not KEY=VALUE.")
        if key in found:
            raise UsageError(f"Option '{key}' is given twice.")
        found[key] = value
    return found
