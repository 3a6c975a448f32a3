"""autoprune: hardware-aware AutoML pruning. The listing is the data flow; a module imports only from rooms above it.

::

    errors        one exception tree, drawn in its docstring
    files         files that are whole or not there
    documents     YAML read safely into strict models; the folders of documents that ship
    plugins       implementations by name: ours, and those that installed packages add
    task          Task: what the user brings
    commands      Commands: templates of command lines, by which any board is used
    hardware      HardwareProfile, TimingPolicy, Capabilities (the only reader of hw_profiles/)
    recipe        Recipe: one candidate as plain data
    records       Artifact, Measurement, Score, TrialRecord
    graph/        nn.Module -> exported graph and its PruneGroups; the cut itself
    space         SearchSpace: all candidates, narrowed by groups and capabilities (the only reader of search_spaces/)
    solver/       which level for each group within budgets: multiple-choice knapsack on plain arrays
    pareto        fronts beyond the noise, hypervolume, goals, the model to recommend
    compress/     Recipe -> smaller model: criteria/, recover/, quantize
    damage/       what cutting each group does to the output of the whole model: error tables
    export/       model -> Artifact (ONNX), parity, bundles for deployment
    devices/      Artifact -> Measurement: one timing loop, one file per runtime, one per way to a device
    evaluate/     Recipe -> TrialRecord: runs the stages in order
    latency/      what cutting each group saves on one device: tables, measured end to end, and their bias
    study/        the run directory: SQLite study, result files, lock, resume, reconcile
    strategies/   which recipe next
    report/       tables, plots, HTML
    tasks/        built-in tasks and the user's own files
    engine/       search(), resume(): the loop, wired
    testing/      contract kits and fakes, public: plug-in authors test with them
    cli/          one file per command
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from autoprune.engine import Run, resume, search
    from autoprune.task import Task

__all__ = ["Run", "Task", "resume", "search"]

_HOMES = {
    "Run": "autoprune.engine",
    "Task": "autoprune.task",
    "resume": "autoprune.engine",
    "search": "autoprune.engine",
}


def __getattr__(name: str) -> Any:
    """Import the public names when they are first used, so that ``import autoprune`` stays light."""
    if name not in _HOMES:
        raise AttributeError(f"module 'autoprune' has no attribute '{name}'")
    return getattr(import_module(_HOMES[name]), name)
