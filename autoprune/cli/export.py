"""autoprune export: one model of a run, ready to deploy, in a folder of its own."""

from pathlib import Path
from typing import Annotated

import typer

from autoprune.cli._options import RunArgument


def export(
    run: RunArgument,
    recipe: Annotated[
        str | None, typer.Argument(help="A recipe's id or the beginning of it; without it, the chosen model.")
    ] = None,
    *,
    to: Annotated[Path, typer.Option(help="The folder to make.")],
) -> None:
    """Write one model of a run (artifact, safetensors, .pt2, recipe, manifest) into a folder."""
    from autoprune.cli._output import out
    from autoprune.cli._progress import Progress
    from autoprune.engine.bundle import export_recipe

    with Progress() as progress:
        chosen = export_recipe(run, recipe, to, observer=progress)
    out.print(f"Wrote recipe {chosen} to {to}", soft_wrap=True, highlight=False)
