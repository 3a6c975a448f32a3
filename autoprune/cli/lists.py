"""autoprune tasks, spaces, strategies: what there is to choose from, one line each."""

from autoprune.cli._options import JsonOption


def _show(rows: list[dict[str, str]], *, json: bool) -> None:
    from autoprune.cli._output import print_json, print_table

    if json:
        print_json(rows)
    else:
        print_table([key.upper() for key in rows[0]], [list(row.values()) for row in rows])


def tasks(*, json: JsonOption = False) -> None:
    """List the built-in tasks and their options."""
    from autoprune.tasks import tasks as known

    _show(
        [{"task": t.name, "description": t.description, "options": ", ".join(map(str, t.options))} for t in known()],
        json=json,
    )


def spaces(*, json: JsonOption = False) -> None:
    """List the search spaces that ship."""
    from autoprune.space import list_spaces

    _show([{"space": s.name, "description": s.description} for s in list_spaces()], json=json)


def strategies(*, json: JsonOption = False) -> None:
    """List the search strategies."""
    from autoprune.strategies import strategies as known

    _show([{"strategy": s.name, "description": s.description} for s in known()], json=json)
