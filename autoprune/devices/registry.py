"""Which runtimes there are: those that ship, and those that installed packages add as ``autoprune.devices``."""

import importlib
import importlib.metadata
import importlib.util
from dataclasses import dataclass

from autoprune.devices._base import Device
from autoprune.devices.remote import RemoteDevice
from autoprune.errors import TargetError
from autoprune.hardware import GIVEN, LOCAL, HardwareProfile
from autoprune.plugins import by_name

GROUP = "autoprune.devices"
SHIPPED = {"onnxruntime": "autoprune.devices.onnxruntime:OnnxRuntimeDevice"}
INSTALL = {"onnxruntime": "pip install onnxruntime"}


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
    if profile.connection != LOCAL:
        return RemoteDevice(profile)
    known = _known()
    if profile.runtime not in known:
        raise TargetError(
            f"Profile '{profile.name}' asks for runtime '{profile.runtime}', which is not known here: "
            f"choose one of {', '.join(known)}, or install the package that adds it."
        )
    if missing := _missing(profile.runtime):
        raise TargetError(f"Profile '{profile.name}' needs runtime '{profile.runtime}': {missing}")
    try:
        kind: type[Device] = known[profile.runtime].load()
    except (ImportError, AttributeError) as error:
        raise TargetError(
            f"Profile '{profile.name}' needs runtime '{profile.runtime}', which fails: {error}."
        ) from error
    return kind(profile)


def runtimes() -> list[Runtime]:
    """All runtimes and whether they work here; reads only the metadata of installed packages."""
    rows = []
    for name, entry in _known().items():
        missing = _missing(name)
        rows.append(Runtime(name, not missing, "" if missing else _version(entry), missing))
    return rows


def _known() -> dict[str, importlib.metadata.EntryPoint]:
    ours = [importlib.metadata.EntryPoint(name, value, GROUP) for name, value in SHIPPED.items()]
    return by_name(ours, group=GROUP, plural="runtimes")


def _missing(name: str) -> str:
    if name not in SHIPPED or importlib.util.find_spec(name):
        return ""
    return f"package '{name}' is not installed; get it with: {INSTALL[name]}"


def _version(entry: importlib.metadata.EntryPoint) -> str:
    """Of the package that adds the runtime; for a shipped one, of the package that it needs."""
    try:
        return entry.dist.version if entry.dist else importlib.metadata.version(entry.name)
    except importlib.metadata.PackageNotFoundError:
        return ""
