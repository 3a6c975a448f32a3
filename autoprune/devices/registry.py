"""Which runtimes there are: those that ship, and those that installed packages add as ``autoprune.devices``."""

import importlib.metadata
import importlib.util
from dataclasses import dataclass

from autoprune.devices._base import Device
from autoprune.devices.local import LocalDevice
from autoprune.devices.remote import RemoteDevice
from autoprune.errors import TargetError
from autoprune.hardware import GIVEN, LOCAL, HardwareProfile
from autoprune.plugins import by_name, shipped

GROUP = "autoprune.devices"
SHIPPED, ATTRIBUTE = "autoprune.devices.runtimes", "DEVICE"


@dataclass(frozen=True)
class Runtime:
    """One runtime as the user meets it; ``missing`` says what to install, empty when it works."""

    name: str
    works: bool
    version: str
    missing: str


def open_device(profile: HardwareProfile) -> Device:
    """The device of that profile.

    Raises:
        TargetError: the runtime is unknown, a package that it needs is not installed, or the connection is no address.
        UsageError: two packages add a runtime of the same name.
    """
    if profile.connection == GIVEN:
        raise TargetError(f"Target '{profile.name}' is somewhere else: say where, with --connect ssh://user@host.")
    kind = _kind(profile)
    local = profile.connection == LOCAL
    here = local or kind.format != Device.format  # what is no ONNX is made and scored here in any case
    if here and (missing := _missing(kind)):
        raise TargetError(f"Profile '{profile.name}' needs runtime '{profile.runtime}': {missing}")
    if local:
        return kind(profile)
    if not issubclass(kind, LocalDevice):
        raise TargetError(
            f"Profile '{profile.name}' asks for runtime '{profile.runtime}' over a connection: "
            "that works with the runtimes that ship with autoprune."
        )
    return RemoteDevice(profile)


def list_runtimes() -> list[Runtime]:
    """All runtimes and whether they work here; imports none of those that other packages add."""
    rows = []
    for name, entry in _known().items():
        missing = _missing(entry.load()) if entry.group == SHIPPED else ""
        rows.append(Runtime(name, not missing, "" if missing else _version(entry), missing))
    return rows


def _kind(profile: HardwareProfile) -> type[Device]:
    known = _known()
    if profile.runtime not in known:
        raise TargetError(
            f"Profile '{profile.name}' asks for runtime '{profile.runtime}', which is not known here: "
            f"choose one of {', '.join(known)}, or install the package that adds it."
        )
    try:
        kind: type[Device] = known[profile.runtime].load()
    except (ImportError, AttributeError) as error:
        raise TargetError(
            f"Profile '{profile.name}' needs runtime '{profile.runtime}', which fails: {error}."
        ) from error
    return kind


def _known() -> dict[str, importlib.metadata.EntryPoint]:
    return by_name(shipped(SHIPPED, ATTRIBUTE), group=GROUP, plural="runtimes")


def _missing(kind: type[Device]) -> str:
    if not issubclass(kind, LocalDevice):
        return ""
    missing = [name for name in (kind.needs, kind.converts) if name and not importlib.util.find_spec(name)]
    return f"package '{missing[0]}' is not installed; get it with: {kind.install}" if missing else ""


def _version(entry: importlib.metadata.EntryPoint) -> str:
    """Of the package that adds the runtime; for a shipped one, of the package that it needs."""
    try:
        return entry.dist.version if entry.dist else importlib.metadata.version(entry.load().needs)
    except importlib.metadata.PackageNotFoundError:
        return ""
