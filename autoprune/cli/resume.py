"""autoprune resume: go on with a run that was stopped or killed, or extend a finished one."""

from typing import Annotated

import typer

from autoprune.cli._options import JsonOption, RunArgument


def resume(
    run: RunArgument,
    *,
    trials: Annotated[int | None, typer.Option(min=1, help="Extend the run to this many recipes in all.")] = None,
    accept_changes: Annotated[
        bool, typer.Option("--accept-changes", help="Go on though code, weights, data or versions changed.")
    ] = False,
    json: JsonOption = False,
) -> int:
    """Go on with a run that was stopped or killed, or extend a finished one."""
    from autoprune import engine
    from autoprune.cli import _run

    return _run.watched(
        lambda observer: engine.resume(run, trials=trials, accept_changes=accept_changes, observer=observer), json=json
    )
