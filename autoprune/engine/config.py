"""What a run is asked to do, and what is written of it into ``run.json``."""

from pathlib import Path
from typing import Any

from pydantic import Field, NonNegativeFloat, NonNegativeInt, PositiveInt, ValidationError

from autoprune.documents import Strict
from autoprune.errors import RunError
from autoprune.hardware import HardwareProfile
from autoprune.pareto import Goals
from autoprune.space import SearchSpace
from autoprune.study import RunDirectory

LONGEST = 80  # bytes of each part of a run directory's name; file systems take 255 in all


class SearchConfig(Strict):
    """The resolved configuration of a search: nothing in it depends on the folder or the shell it was given in.

    ``task`` is None for a run started from Python with a `Task` object, which has to be given again to resume it.
    With ``allow_clock_control`` the device's clocks are held still while the run goes on.
    """

    task: str | None
    task_options: dict[str, str] = Field(default_factory=dict)
    profile: HardwareProfile
    space: SearchSpace
    strategy: str = "guided"
    trials: PositiveInt = 40
    objectives: tuple[str, ...] = ("accuracy", "latency_ms")
    goals: Goals = Goals()
    seed: NonNegativeInt = 0
    allow_clock_control: bool = False


class GroupInfo(Strict):
    """One group of the dense model, without its slices."""

    id: str
    kind: str
    size: PositiveInt
    macs: NonNegativeInt


class RunInfo(Strict):
    """``run.json``.

    Attributes:
        fingerprints: of code, weights, data and device; a run goes on only where they are the same.
        accepted: changes that the user accepted when resuming, in words.
        preparation_s: seconds from the start to the first trial.
    """

    schema_version: int = 1
    config: SearchConfig
    task_name: str
    created_at: str
    versions: dict[str, str]
    fingerprints: dict[str, str]
    facts: dict[str, str]
    groups: tuple[GroupInfo, ...]
    channel_multiple: PositiveInt
    accepted: tuple[str, ...] = ()
    preparation_s: NonNegativeFloat = 0.0

    @classmethod
    def load(cls, directory: RunDirectory) -> "RunInfo":
        """Read ``run.json``.

        Raises:
            RunError: it is corrupted; names the file and the field.
        """
        document: Any = directory.read(directory.run)
        try:
            return cls.model_validate(document)
        except ValidationError as error:
            first = error.errors()[0]
            field = ".".join(str(part) for part in first["loc"])
            raise RunError(f"{directory.run} is corrupted: {field}: {first['msg']}.") from error

    def save(self, directory: RunDirectory) -> None:
        """Write ``run.json``."""
        directory.write(directory.run, self.model_dump(mode="json"))


def default_out(task: str, target: str, stamp: str) -> Path:
    """``runs/<task>-<target>-<time>``."""
    return Path("runs") / default_name(task, target, stamp)


def default_name(*parts: str) -> str:
    """The parts, joined by hyphens, with what a file name cannot hold left out."""
    clean = ("".join(c if c.isalnum() or c in "._" else "_" for c in part) for part in parts)
    return "-".join(part.encode()[:LONGEST].decode(errors="ignore") for part in clean)
