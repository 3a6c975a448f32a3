"""Running a search under the eyes of a person or a script."""

from collections.abc import Callable

from autoprune.cli._output import out, print_json, print_table
from autoprune.cli._progress import Progress
from autoprune.engine import Observer, Run, SearchConfig, Silent
from autoprune.engine.prepare import prepare
from autoprune.errors import SearchError

GOALS_MISSED = SearchError.exit_code


def watched(run: Callable[[Observer], Run], *, json: bool) -> int:
    """Drive ``run`` with live progress, then print its result; the exit code is 6 when its goals are not met."""
    from autoprune.engine.story import read_story
    from autoprune.report import render_terminal

    with Progress() as progress:
        finished = run(progress)
    if json:
        print_json(finished.document)
    else:
        render_terminal(read_story(finished.directory), out)
    return 0 if finished.document["goals"]["met"] else GOALS_MISSED


def dry(config: SearchConfig, *, json: bool) -> int:
    """Print what a search would do: configuration, groups, size of the space."""
    prepared = prepare(config, Silent())
    space = prepared.space
    if json:
        print_json(
            {
                "config": config.model_dump(mode="json"),
                "facts": prepared.device.facts(),
                "channel_multiple": space.channel_multiple,
                "groups": [
                    {"id": g.id, "kind": g.kind, "size": g.size, "levels": space.levels.get(g.id, (g.size,))}
                    for g in prepared.graph.groups
                ],
                "log10_size": space.log10_size,
            }
        )
        return 0
    rows = {
        "task": prepared.task.name,
        "target": f"{config.profile.name} ({config.profile.description})",
        "space": f"{config.space.name}: about 10^{space.log10_size:.1f} recipes",
        "strategy": f"{config.strategy}, {config.trials} trials, seed {config.seed}",
        "objectives": ", ".join(config.objectives),
        "precisions": ", ".join(space.precisions),
        "widths": f"multiples of {space.channel_multiple}",
        "recovery": ", ".join(choice.label for choice in config.space.recover),
    }
    print_table(["SEARCH", ""], [[key, value] for key, value in rows.items()])
    print_table(
        ["GROUP", "KIND", "UNITS", "MAY KEEP"],
        [
            [g.id, g.kind, str(g.size), ", ".join(map(str, space.levels.get(g.id, (g.size,))))]
            for g in prepared.graph.groups
        ],
    )
    return 0
