"""autoprune explain: what can be cut in a model, what cannot, and why."""

from typing import Any

from autoprune.cli._options import JsonOption, TaskOption, TaskOptions, key_values


def explain(*, task: TaskOption, option: TaskOptions = None, json: JsonOption = False) -> None:
    """Say what can be cut in a task's model, what cannot, and which operator stands in the way."""
    from autoprune.cli._output import out, print_json, print_table
    from autoprune.engine.prepare import capture
    from autoprune.tasks import check_task, load_task

    found = load_task(task, key_values(option))
    check_task(found)
    graph = capture(found)
    groups: list[dict[str, Any]] = [
        {
            "group": group.id,
            "kind": group.kind,
            "units": group.size,
            "macs": group.macs,
            "cuts": [f"{member.parameter}[{member.dim}]" for member in group.members],
        }
        for group in graph.groups
    ]
    blocked = [{"operator": b.operator, "node": b.node, "where": b.where, "reason": b.reason} for b in graph.blocked]
    if json:
        print_json({"groups": groups, "blocked": blocked})
        return
    print_table(
        ["GROUP", "KIND", "UNITS", "MMACS", "CUT TOGETHER"],
        [[g["group"], g["kind"], str(g["units"]), f"{g['macs'] / 1e6:.2f}", _short(g["cuts"])] for g in groups],
    )
    if blocked:
        out.print(f"\nOperators that keep dimensions whole: {len(blocked)}")
        print_table(["OPERATOR", "NODE", "WHERE", "REASON"], [list(row.values()) for row in blocked])
    else:
        out.print("\nNo operator stands in the way.")


def _short(cuts: list[str], shown: int = 4) -> str:
    rest = len(cuts) - shown
    return ", ".join(cuts[:shown]) + (f" and {rest} more" if rest > 0 else "")
