"""A device that the system's own ssh reaches, with the user's configuration, keys, jumps and known hosts."""

from __future__ import annotations

import shlex
from urllib.parse import urlsplit

from autoprune.devices._wire import BOOT
from autoprune.devices.remote import RemoteDevice
from autoprune.errors import TargetError
from autoprune.hardware import HardwareProfile

CONNECT_SECONDS = 15
ALIVE_SECONDS = 5  # between signs of life; a device that gives none for three of them is lost


def command(address: str, python: str = "python3") -> list[str]:
    """The argument list that starts the device's Python.

    Args:
        address: ``ssh://[user@]host[:port]``; the host may be a name of the user's ssh configuration.
        python: of the device.

    Raises:
        TargetError: the address is not one.
    """
    try:
        parts = urlsplit(address)
        port = parts.port
    except ValueError as error:
        raise TargetError(f"'{address}' is no address of a device: {error}.") from error
    odd = parts.path.strip("/") or parts.query or parts.fragment or parts.password
    if parts.scheme != "ssh" or not parts.hostname or odd or parts.hostname.startswith("-"):
        raise TargetError(
            f"'{address}' is no address of a device: it looks like ssh://user@host or ssh://user@host:22."
        )
    host = parts.netloc.rpartition("@")[2].partition(":")[0]  # as written: names of a configuration have upper case
    options = [
        "-T",
        *("-o", "BatchMode=yes"),  # a question that nobody sees would wait for ever
        *("-o", f"ConnectTimeout={CONNECT_SECONDS}"),
        *("-o", f"ServerAliveInterval={ALIVE_SECONDS}"),
        *(("-p", str(port)) if port else ()),
        *(("-l", parts.username) if parts.username else ()),
    ]
    return ["ssh", *options, "--", host, f"{shlex.quote(python)} -u -c {shlex.quote(BOOT)}"]


class SshDevice(RemoteDevice):
    """One runtime on one device, with the agent at the other end of an ssh."""

    def __init__(self, profile: HardwareProfile) -> None:
        super().__init__(profile, command(profile.connection, profile.python))


DEVICE = SshDevice
