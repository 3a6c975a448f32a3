"""Which runtimes there are: those that ship, and those that installed packages add as ``autoprune.devices``."""

import importlib.metadata
from dataclasses import dataclass

from autoprune.devices._base import Device
from autoprune.devices.lease import OnWait, ignore
from autoprune.devices.local import LocalDevice
from autoprune.devices.plan import PlannedDevice
from autoprune.devices.pool import Pool
from autoprune.devices.remote import RemoteDevice
from autoprune.errors import TargetError
from autoprune.hardware import GIVEN, LOCAL, HardwareProfile, RuntimeOptions
from autoprune.plugins import by_name, shipped

GROUP = "autoprune.devices"
SHIPPED, WAYS, ATTRIBUTE = "autoprune.devices.runtimes", "autoprune.devices.ways", "DEVICE"


@dataclass(frozen=True)
class Runtime:
    """One runtime as the user meets it; ``missing`` says what to install, empty when it works."""

    name: str
    works: bool
    version: str
    missing: str


def open_device(profile: HardwareProfile, *, notify: OnWait = ignore) -> Device:
    """The device of that profile; of several connections, the pool of their devices, which tells ``notify`` of trouble.

    One whose connection has to be given, and is not, is planned for.

    Raises:
        TargetError: the runtime is unknown or has no such option, a package that it needs is not installed, or the
            connection is no address.
        UsageError: two packages add a runtime of the same name.
    """
    if profile.connections:
        ways = [{"connection": connection, "connections": ()} for connection in profile.connections]
        return Pool(profile, [open_device(profile.model_copy(update=way)) for way in ways], notify=notify)
    if profile.connection == GIVEN:
        return PlannedDevice(profile, format=_kind(profile).format)
    if profile.connection == LOCAL:
        kind = _kind(profile)
        _check_here(kind, profile)
        return kind(profile)
    way = _way(profile)
    if not issubclass(way, RemoteDevice):
        _check_options(profile, frozenset())
    elif not issubclass(kind := _kind(profile), LocalDevice):
        raise TargetError(
            f"Profile '{profile.name}' asks for runtime '{profile.runtime}' over a connection: "
            "that works with the runtimes that ship with autoprune."
        )
    elif not kind.format.startswith(Device.format):  # what is no ONNX is made and scored here in any case
        _check_here(kind, profile)
    return way(profile)


def _check_here(kind: type[Device], profile: HardwareProfile) -> None:
    """Raises TargetError where the runtime does not work on this machine."""
    if missing := _missing(kind, profile.options):
        raise TargetError(f"Profile '{profile.name}' needs runtime '{profile.runtime}': {missing}")


def list_runtimes() -> list[Runtime]:
    """All runtimes and whether they work here; imports none of those that other packages add."""
    rows = []
    for name, entry in _known().items():
        missing = _missing(entry.load(), RuntimeOptions()) if entry.group == SHIPPED else ""
        rows.append(Runtime(name, not missing, "" if missing else _version(entry), missing))
    return rows


def _way(profile: HardwareProfile) -> type[Device]:
    """What leads there, by the scheme of the connection."""
    known = {entry.name: entry for entry in shipped(WAYS, ATTRIBUTE)}
    scheme = profile.connection.partition("://")[0]
    if scheme not in known:
        raise TargetError(
            f"'{profile.connection}' is no address of a device: it is '{LOCAL}', or begins with one of "
            f"{', '.join(sorted(known))}, as in ssh://user@host or adb://serial."
        )
    way: type[Device] = known[scheme].load()
    return way


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
    if issubclass(kind, LocalDevice):
        _check_options(profile, kind.options)
    return kind


def _check_options(profile: HardwareProfile, known: frozenset[str]) -> None:
    if unknown := profile.options.given() - known:
        raise TargetError(
            f"Profile '{profile.name}': runtime '{profile.runtime}' has no option {' or '.join(sorted(unknown))}: "
            f"it knows {', '.join(['threads', 'batch', *sorted(known)])}."
        )


def _known() -> dict[str, importlib.metadata.EntryPoint]:
    return by_name(shipped(SHIPPED, ATTRIBUTE), group=GROUP, plural="runtimes")


def _missing(kind: type[Device], options: RuntimeOptions) -> str:
    return kind.missing(options) if issubclass(kind, LocalDevice) else ""


def _version(entry: importlib.metadata.EntryPoint) -> str:
    """Of the package that adds the runtime; for a shipped one, of the package that it needs."""
    try:
        return entry.dist.version if entry.dist else importlib.metadata.version(entry.load().needs)
    except importlib.metadata.PackageNotFoundError:
        return ""
