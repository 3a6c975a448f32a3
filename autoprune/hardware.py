"""Hardware profiles: what a device is, how it is reached and how it is timed. The only reader of ``hw_profiles/``."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

import platformdirs
from pydantic import Field, NonNegativeFloat, NonNegativeInt, PositiveFloat, PositiveInt, field_validator

from autoprune.commands import Commands
from autoprune.documents import Strict, find_document, known_documents, read_yaml
from autoprune.errors import TargetError, UsageError

Precision = Literal["fp32", "fp16", "int8"]
Sparsity = Literal["2:4", "unstructured"]
LOCAL, GIVEN = "local", "given"
FOLDER = "hw_profiles"
PATIENCE = 3


class TimingPolicy(Strict):
    """How a latency is measured; see ``autoprune.devices.timing`` for the loop that follows it."""

    warmup_ms: PositiveFloat = Field(default=100.0, description="runs before the first sample, by time")
    blocks: int = Field(default=11, ge=6, description="blocks that count; fewer than 6 medians give no 95 % interval")
    block_ms: PositiveFloat = Field(default=25.0, description="length of a block")
    min_block_runs: PositiveInt = Field(default=3, description="runs in a block, however slow the model is")
    settle_percent: PositiveFloat = Field(
        default=3.0, description="width of the 95 % interval of the median at which the latency has settled"
    )
    max_seconds: PositiveFloat = Field(
        default=20.0, description="what has not settled by then is told by its fastest runs, or given up"
    )
    tolerate_percent: NonNegativeFloat = Field(
        default=20.0, description="told by them where they are no further apart than this"
    )
    patience: PositiveInt = Field(default=1, description="given up after so many times ``max_seconds`` at the latest")
    drift_percent: PositiveFloat = Field(
        default=10.0, description="time again what was timed while the dense model was slower than at first by this"
    )
    cool_down_s: NonNegativeFloat = Field(
        default=10.0, le=60.0, description="wait before that, or where the device throttles"
    )
    retries: NonNegativeInt = Field(default=2, description="how often to time again")

    def patient(self) -> "TimingPolicy":
        """Not given up so soon: for what minutes or hours of work rest on, and a busy moment should not end."""
        return self.model_copy(update={"patience": PATIENCE * self.patience})

    @property
    def give_up_s(self) -> float:
        """Seconds after which what has not settled is given up."""
        return self.patience * self.max_seconds


class RuntimeOptions(Strict):
    """Options of all runtimes. Every one knows the first two; ``open_device`` refuses others that the runtime does not.

    What is left out is off, or the runtime's own choice.
    """

    threads: PositiveInt = 1
    batch: PositiveInt = 1
    cuda_graph: bool | None = Field(default=None, description="on a GPU: launch all kernels at once, as recorded")
    workspace_mb: PositiveInt | None = Field(
        default=None, description="TensorRT: memory that a layer may take while it works, in 2^20 bytes"
    )
    trtexec: str | None = Field(default=None, description="its path, where it is in no usual place")
    processor: Literal["cpu", "cuda"] | None = Field(default=None, description="PyTorch: what runs the model; cpu")
    compiled: bool | None = Field(default=None, description="PyTorch: through torch.compile")

    provider: Literal["cpu", "xnnpack", "cuda", "tensorrt"] | None = Field(
        default=None, description="ONNX Runtime: its execution provider; cpu"
    )
    spinning: bool | None = Field(default=None, description="ONNX Runtime: threads that wait do so busily; true")

    def given(self) -> frozenset[str]:
        """Names of those that are set and not for every runtime."""
        return frozenset(self.model_dump(exclude_none=True)) - {"threads", "batch"}


class Capabilities(Strict):
    """What the device can use."""

    channel_multiple: PositiveInt | Literal["probe"] = Field(
        default="probe", description="widths that are multiples of it pay; 'probe' measures it on the device"
    )
    precisions: tuple[Precision, ...] | Literal["probe"] = Field(
        default=("fp32",), description="those that pay; 'probe' times a small network in each"
    )
    sparsity: tuple[Sparsity, ...] | Literal["probe"] = Field(
        default=(), description="patterns of zeros that its runtime may skip; 'probe' allows all, to find out"
    )

    def may_be(self, pattern: Sparsity) -> bool:
        """Whether the runtime is to look for such zeros."""
        return self.sparsity == "probe" or pattern in self.sparsity


class Hardware(Strict):
    """What the device is made of, as its maker says; what a latency is estimated from where none can be measured."""

    processor: str = Field(description="what runs the models")
    cores: PositiveInt | None = Field(
        default=None, description="of the processor, where ``options.threads`` says how many work; not of a GPU"
    )
    memory_bytes: PositiveInt | None = None
    peak_gflops: dict[Precision, PositiveFloat] = Field(
        default_factory=dict, description="multiplications and additions, dense, in 10^9 a second"
    )
    bandwidth_gb_per_s: PositiveFloat | None = Field(default=None, description="of the memory, in 10^9 bytes a second")
    sources: tuple[str, ...] = Field(default=(), description="where the figures are from")


class HardwareProfile(Strict):
    """One device as its YAML file describes it."""

    name: str
    description: str
    extends: str | None = Field(default=None, description="another profile, by name or path, that says the rest")
    runtime: str = Field(description="its name in ``autoprune.devices``; of a command or a phone, what you call it")
    connection: str = Field(
        default=LOCAL,
        description="'local', the way there (ssh://user@host:port, adb, adb://serial, command, command://address), "
        "or 'given' on the command line",
    )
    connections: tuple[str, ...] = Field(default=(), description="in place of it: those of several identical devices")
    command: Commands | None = Field(default=None, description="how it is used by way of 'command' or 'adb'")
    python: str = Field(default="python3", description="Python on the device, 3.8 or newer, that has the runtime")
    options: RuntimeOptions = RuntimeOptions()
    timing: TimingPolicy = TimingPolicy()
    capabilities: Capabilities = Capabilities()
    hardware: Hardware | None = None

    @field_validator("connections")
    @classmethod
    def _differ(cls, connections: tuple[str, ...]) -> tuple[str, ...]:
        if len(set(connections)) < len(connections):
            raise ValueError("one of them is named twice")
        return connections


def load_profile(name: str, *, connection: str | Sequence[str] | None = None) -> HardwareProfile:
    """The profile of that name, or the one in the file of that path; with another ``connection`` where one is given.

    Several connections lead to several identical devices.

    Raises:
        TargetError: no such profile, two of one name, profiles that extend each other, or a connection given twice.
        DocumentError: the file breaks the schema.
    """
    return connected(_read(name, ()), connection)


def connected(profile: HardwareProfile, connection: str | Sequence[str] | None) -> HardwareProfile:
    """``profile`` with that way to the device in place of its own. Raises TargetError for a connection given twice."""
    given = (connection,) if isinstance(connection, str) else tuple(connection or ())
    if len(set(given)) < len(given):
        raise TargetError(f"A connection is given twice: {', '.join(given)}.")
    several = given if len(given) > 1 else ()
    return profile.model_copy(update={"connection": given[0], "connections": several}) if given else profile


def list_profiles() -> list[HardwareProfile]:
    """Those that ship and the user's own, by name. Raises as `load_profile`."""
    try:
        known = known_documents(FOLDER, own=user_folder())
    except UsageError as error:
        raise TargetError(str(error)) from error
    return [_read(name, ()) for name in sorted(known)]


def user_folder() -> Path:
    """Where the user's own profiles are found by name: ``hw_profiles`` in autoprune's configuration folder."""
    return platformdirs.user_config_path("autoprune") / FOLDER


def _read(name: str, by: tuple[Path, ...]) -> HardwareProfile:
    """The profile, completed by the one that it extends; ``by`` are the files that extend it."""
    try:
        path = find_document(name, FOLDER, own=user_folder()).resolve()
    except UsageError as error:
        raise TargetError(f"Unknown target: {error}") from error
    if path in by:
        raise TargetError(f"Targets extend each other: {' extends '.join(map(str, (*by, path)))}.")

    def complete(data: dict[str, Any]) -> dict[str, Any]:
        if not isinstance(data.get("extends"), str):
            return data
        base = str(data["extends"])
        if base.endswith((".yaml", ".yml")):
            base = str(path.parent / base)
        return _merged(_read(base, (*by, path)).model_dump(exclude={"extends"}), data)

    return read_yaml(path, HardwareProfile, complete=complete)


def _merged(base: dict[str, Any], own: dict[str, Any]) -> dict[str, Any]:
    """``base`` with what ``own`` says, mappings within mappings too."""
    found = dict(base)
    for key, value in own.items():
        inner = found.get(key)
        found[key] = _merged(inner, value) if isinstance(inner, dict) and isinstance(value, dict) else value
    return found
