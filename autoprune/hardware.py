"""Hardware profiles: what a device is, how it is reached and how it is timed. The only reader of ``hw_profiles/``."""

from typing import Literal

from pydantic import Field, PositiveFloat, PositiveInt

from autoprune.documents import Strict, find_document, read_yaml, shipped_folder
from autoprune.errors import TargetError, UsageError

Precision = Literal["fp32", "int8"]


class TimingPolicy(Strict):
    """How a latency is measured; see ``autoprune.devices.timing`` for the loop that follows it."""

    warmup_ms: PositiveFloat = Field(default=100.0, description="runs before the first sample, by time")
    blocks: int = Field(default=11, ge=6, description="blocks that count; fewer than 6 medians give no 95 % interval")
    block_ms: PositiveFloat = Field(default=25.0, description="length of a block")
    min_block_runs: PositiveInt = Field(default=3, description="runs in a block, however slow the model is")
    settle_percent: PositiveFloat = Field(
        default=3.0, description="width of the 95 % interval of the median at which the latency has settled"
    )
    max_seconds: PositiveFloat = Field(default=20.0, description="give up on a model that has not settled by then")


class RuntimeOptions(Strict):
    """Options of the runtime; what a runtime does not know, its device file refuses."""

    threads: PositiveInt = 1
    batch: PositiveInt = 1


class Capabilities(Strict):
    """What the device can use."""

    channel_multiple: PositiveInt | Literal["probe"] = Field(
        default="probe", description="widths that are multiples of it pay; 'probe' measures it on the device"
    )
    precisions: tuple[Precision, ...] = ("fp32",)


class HardwareProfile(Strict):
    """One device as its YAML file describes it."""

    name: str
    description: str
    runtime: str = Field(description="its name in ``autoprune.devices``; installed packages may add more")
    options: RuntimeOptions = RuntimeOptions()
    timing: TimingPolicy = TimingPolicy()
    capabilities: Capabilities = Capabilities()


def load_profile(name: str) -> HardwareProfile:
    """The profile of that name, or the one in the file of that path.

    Raises:
        TargetError: no such profile.
        DocumentError: the file breaks the schema.
    """
    try:
        path = find_document(name, "hw_profiles")
    except UsageError as error:
        raise TargetError(f"Unknown target: {error}") from error
    return read_yaml(path, HardwareProfile)


def list_profiles() -> list[HardwareProfile]:
    """All shipped profiles, by name."""
    return [read_yaml(path, HardwareProfile) for path in sorted(shipped_folder("hw_profiles").glob("*.yaml"))]
