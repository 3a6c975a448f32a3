"""The commands; one file each. Nothing heavy is imported before a command runs.

Exit codes: 0 done; 1 a fault of ours; 2 an option or document; 3 the task; 4 the model; 5 the run directory;
6 no usable model was found or no model meets the goals; 130 stopped by Ctrl-C.
"""

from autoprune.cli.main import main

__all__ = ["main"]
