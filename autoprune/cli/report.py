"""autoprune report: write report.html and pareto.json of a run anew."""

from autoprune.cli._options import RunArgument


def report(run: RunArgument) -> None:
    """Write report.html and pareto.json of a run anew, finished or not."""
    from autoprune.cli._output import out
    from autoprune.engine.story import write_reports
    from autoprune.study import RunDirectory

    directory = RunDirectory.open(run)
    with directory.locked():
        write_reports(directory)
    out.print(f"Wrote {directory.report} and {directory.pareto}", soft_wrap=True, highlight=False)
