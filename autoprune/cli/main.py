"""The entry point: gathers the commands and turns errors into sentences and exit codes."""

import os
import signal
import sys
from types import FrameType
from typing import NoReturn

import typer

from autoprune.cli import calibrate, doctor, explain, export, lists, measure, report, resume, search, show, targets
from autoprune.cli._crash import crash_report
from autoprune.errors import AutopruneError

app = typer.Typer(
    name="autoprune",
    help="Hardware-aware AutoML pruning: the Pareto-best smaller models for your device, measured on it.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
for module in (search, resume, measure, show, report, export, explain, calibrate, doctor):
    app.command()(getattr(module, module.__name__.rpartition(".")[2]))
for command in (lists.tasks, lists.spaces, lists.strategies):
    app.command()(command)
app.add_typer(targets.app, name="targets")


def main() -> NoReturn:
    """Run the command line; see the package's docstring for exit codes."""
    signal.signal(signal.SIGTERM, _stop)
    try:
        code = app(standalone_mode=False)
        sys.stdout.flush()
    except AutopruneError as error:
        _say(str(error))
        sys.exit(error.exit_code)
    except (KeyboardInterrupt, typer.Abort):
        _say("Stopped.")
        sys.exit(130)
    except typer.Exit as error:
        sys.exit(error.exit_code)
    except (BrokenPipeError, SystemExit):  # click and rich exit so when the reader of standard output has gone
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)  # the interpreter flushes once more
        sys.exit(0)
    except Exception as error:
        if hasattr(error, "exit_code") and hasattr(error, "format_message"):
            if message := error.format_message():
                _say(message)
            sys.exit(error.exit_code)
        _say(crash_report(error))
        sys.exit(1)
    sys.exit(code if isinstance(code, int) else 0)


def _say(text: str) -> None:
    print(f"autoprune: {text}", file=sys.stderr)


def _stop(number: int, frame: FrameType | None) -> NoReturn:
    """SIGTERM ends a run as cleanly as Ctrl-C does."""
    raise KeyboardInterrupt
