"""autoprune show: the front of a run, finished or not."""

from autoprune.cli._options import JsonOption, RunArgument


def show(run: RunArgument, *, json: JsonOption = False) -> None:
    """Show the front of a run, finished or not."""
    from autoprune.cli._output import out, print_json
    from autoprune.engine.story import read_story
    from autoprune.report import pareto_document, render_terminal

    story = read_story(run)
    if json:
        print_json(pareto_document(story))
    else:
        render_terminal(story, out)
