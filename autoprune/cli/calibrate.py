"""autoprune calibrate: the latency table of a model on a device."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from autoprune.cli._options import (
    ClocksOption,
    ConnectOption,
    JsonOption,
    SpaceOption,
    TargetOption,
    TaskOption,
    TaskOptions,
    key_values,
)

if TYPE_CHECKING:
    from autoprune.latency import LatencyTable


def calibrate(
    *,
    task: TaskOption,
    option: TaskOptions = None,
    target: TargetOption = "cpu",
    connect: ConnectOption = None,
    allow_clock_control: ClocksOption = False,
    space: SpaceOption = "default",
    out: Annotated[Path | None, typer.Option(help="Folder for the table.", show_default="tables/TASK-TARGET")] = None,
    fresh: Annotated[bool, typer.Option("--fresh", help="Time everything again, also what is known.")] = False,
    json: JsonOption = False,
) -> None:
    """Measure what cutting each group of a model saves on a device: its latency table."""
    from autoprune import engine
    from autoprune.cli._output import out as printed
    from autoprune.cli._output import print_json
    from autoprune.cli._progress import Progress

    config = engine.configure(
        task=task,
        options=key_values(option),
        target=target,
        connect=connect,
        space=space,
        allow_clock_control=allow_clock_control,
    )
    with Progress() as progress:
        table = engine.calibrate(config, observer=progress, fresh=fresh)
    folder = engine.write_table(table, out)
    if json:
        print_json(table.model_dump(mode="json"))
        return
    _print(table)
    printed.print(f"\nTable: {folder / 'latency.json'}\nPlots: {folder / 'latency.html'}")


def _print(table: "LatencyTable") -> None:
    from autoprune.cli._output import out, print_table
    from autoprune.report import saved

    n = len(table.observations)
    out.print(f"{table.task} takes {table.dense_ms:.4g} ms on {table.target}; {n} recipes timed beside it.\n")
    precisions = list(table.tables)
    rows = []
    for group in next(iter(table.tables.values())).cells:
        cells = [", ".join(saved(c, table) for c in table.tables[p].cells[group] if c.pays) or "-" for p in precisions]
        rows.append([group, *cells])
    print_table(["GROUP", *(f"{name.upper()}: UNITS KEPT, MS SAVED" for name in precisions)], rows)
    out.print()
    print_table(
        ["PRECISION", "DENSE", "RECIPES UNSEEN", "MEAN ERROR", "WORST", "KENDALL TAU", "TIMED TWICE"],
        [
            [
                name,
                f"{one.dense_share * table.dense_ms:.4g} ms",
                str(one.bias.n),
                f"{one.bias.mape_percent:.2f} %",
                f"{one.bias.worst_percent:.2f} %",
                f"{one.bias.kendall_tau:.3f}",
                "-" if one.bias.repeat_percent is None else f"{one.bias.repeat_percent:.2f} % apart",
            ]
            for name, one in table.tables.items()
        ],
        title="Predicted against measured",
    )
