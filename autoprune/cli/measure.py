"""autoprune measure: measure a run that was planned without its device."""

from typing import Annotated

import typer

from autoprune.cli._options import ConnectOption, JsonOption, RunArgument


def measure(
    run: RunArgument,
    *,
    connect: ConnectOption = None,
    target: Annotated[
        str | None, typer.Option(help="Another profile of the device than the run's.", show_default=False)
    ] = None,
    json: JsonOption = False,
) -> int:
    """Measure the finalists of a run whose latencies were estimated, once the device is at hand."""
    from autoprune import engine
    from autoprune.cli import _run

    return _run.watched(
        lambda observer: engine.measure(run, target=target, connect=connect, observer=observer), json=json
    )
