"""Tasks: the built-in ones (one file each), those of installed packages, and the user's own files."""

from autoprune.tasks._check import TaskFacts, check_task
from autoprune.tasks._fingerprint import fingerprint
from autoprune.tasks._options import Option
from autoprune.tasks._registry import TaskInfo, load_task, tasks

__all__ = ["Option", "TaskFacts", "TaskInfo", "check_task", "fingerprint", "load_task", "tasks"]
