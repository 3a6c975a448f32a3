"""What a format supplies: a file of a module, in a precision, and how people run that file."""

from __future__ import annotations

import hashlib
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

from autoprune.errors import StageError
from autoprune.files import write_whole
from autoprune.records import Artifact

if TYPE_CHECKING:
    import numpy as np
    from torch import Tensor, nn

    from autoprune.graph.model import Keep, PrunableGraph
    from autoprune.hardware import Precision

    Calibration = Sequence[tuple[np.ndarray, ...]]


class Format(ABC):
    """How one kind of runtime takes a model. An instance exports the candidates of one graph; `write` needs none.

    Args:
        graph: of the candidates.
        inputs: a sample of each input; dimension 0 is the batch that is timed.
        workdir: for what is tried out.
    """

    suffix: ClassVar[str]
    """Of its files."""
    runtime: ClassVar[str]
    """What runs them, for people."""
    imports: ClassVar[str]
    """The lines that `use` needs first."""
    use: ClassVar[str]
    """Python that runs the file ``{model}`` with the arrays ``inputs`` and gives the arrays ``outputs``."""

    def __init__(self, graph: PrunableGraph, inputs: tuple[Tensor, ...], workdir: Path) -> None:
        self._inputs = inputs

    @classmethod
    def suited(cls, facts: Mapping[str, str]) -> type[Format]:
        """Itself, or a variant of it for what cannot run it as it is; ``facts`` are the device's, `Device.facts`."""
        return cls

    @classmethod
    @abstractmethod
    def write(
        cls,
        module: nn.Module,
        inputs: tuple[Tensor, ...],
        path: Path,
        *,
        precision: Precision = "fp32",
        calibration: Calibration = (),
    ) -> Artifact:
        """Export ``module``, in evaluation mode, to ``path``.

        Args:
            inputs: a sample of each input. Where the format fixes the batch, it is that of these.
            calibration: batches of inputs for the ranges of INT8, dimension 0 being the batch.

        Raises:
            StageError: kind ``export`` or ``quantize``.
        """

    def candidate(
        self,
        module: nn.Module,
        path: Path,
        *,
        precision: Precision = "fp32",
        calibration: Calibration = (),
        keep: Keep | None = None,
    ) -> Artifact:
        """`write` for a cut of the graph, ``keep``, by a faster way where the format has one."""
        return self.write(module, self._inputs, path, precision=precision, calibration=calibration)


def artifact_of(data: bytes, path: Path, precision: Precision) -> Artifact:
    """Write ``path`` atomically."""
    write_whole(path, data)
    return Artifact(path=path, precision=precision, sha256=hashlib.sha256(data).hexdigest(), size_bytes=len(data))


def refused(runtime: str, error: Exception) -> StageError:
    """What a converter raised, in a sentence: its first line."""
    lines = str(error).strip().splitlines() or [type(error).__name__]
    return StageError(f"The model cannot be exported for {runtime}: {lines[0][:500]}", kind="export")
