"""Printing: people read tables on standard output, scripts read JSON there, progress goes to standard error."""

import json
from typing import Any

from rich.console import Console
from rich.table import Table

out = Console(markup=False, emoji=False)


def print_json(document: Any) -> None:
    """One JSON document on standard output."""
    print(json.dumps(document, indent=1, allow_nan=False))


def print_rows(rows: list[dict[str, str]], *, json: bool) -> None:
    """One or more rows as a table with their keys as columns, or as JSON."""
    if json:
        print_json(rows)
    else:
        print_table([key.upper() for key in rows[0]], [list(row.values()) for row in rows])


def print_table(columns: list[str], rows: list[list[str]], *, title: str | None = None) -> None:
    """A plain table; the last column wraps."""
    table = Table(*columns, title=title, title_justify="left", box=None, header_style="bold", pad_edge=False)
    for row in rows:
        table.add_row(*row)
    out.print(table)
