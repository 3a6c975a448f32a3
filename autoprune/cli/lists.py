"""autoprune tasks, spaces, strategies: what there is to choose from, one line each."""

from autoprune.cli._options import JsonOption


def tasks(*, json: JsonOption = False) -> None:
    """List the built-in tasks and their options."""
    from autoprune.cli._output import print_rows
    from autoprune.tasks import tasks as known

    print_rows(
        [{"task": t.name, "description": t.description, "options": ", ".join(map(str, t.options))} for t in known()],
        json=json,
    )


def spaces(*, json: JsonOption = False) -> None:
    """List the search spaces that ship."""
    from autoprune.cli._output import print_rows
    from autoprune.space import list_spaces

    print_rows([{"space": s.name, "description": s.description} for s in list_spaces()], json=json)


def strategies(*, json: JsonOption = False) -> None:
    """List the search strategies."""
    from autoprune.cli._output import print_rows
    from autoprune.strategies import strategies as known

    print_rows([{"strategy": s.name, "description": s.description} for s in known()], json=json)
