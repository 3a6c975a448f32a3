"""A phone that the system's own adb reaches. The profile's commands use it; this knows what adb says of it."""

from __future__ import annotations

import hashlib
import re
from typing import ClassVar

from autoprune.devices._invoke import invoke
from autoprune.devices.ways.command import CommandDevice
from autoprune.errors import DeviceError, TargetError

LIST_SECONDS = 30.0  # adb may have to start its server first
ROW = re.compile(r"(\S+)\s+(no permissions|\S+).*")
STATES = {
    "offline": "does not answer (offline): unplug it and plug it in again",
    "unauthorized": "does not trust this machine yet (unauthorized): unlock it, and allow USB debugging when it asks",
    "authorizing": "is still being connected (authorizing): try again",
    "connecting": "is still being connected: try again",
    "no permissions": "may not be used by this user (no permissions): udev rules for its maker are missing here",
}


class AdbDevice(CommandDevice):
    """The phone of that serial number, or the only one that is attached."""

    scheme: ClassVar[str] = "adb"

    def _default_address(self) -> str:
        return ""  # found when the phone is asked something

    def check(self) -> None:
        attached = self._attached()
        serial = self.caller.values["address"] or self._only(list(attached))
        state = attached.get(serial)
        if state is None:
            others = f"attached are: {', '.join(attached)}" if attached else "none is"
            raise DeviceError(f"Device '{self.profile.name}': phone {serial} is not attached; {others}.")
        if state != "device":
            told = STATES.get(state, f"is in state '{state}': start Android on it")
            raise DeviceError(f"Device '{self.profile.name}': phone {serial} {told}.")
        self.caller.values["address"] = serial
        self.lease_name = hashlib.sha256(f"adb {serial}".encode()).hexdigest()[:16]

    def _attached(self) -> dict[str, str]:
        """State by serial number, as ``adb devices -l`` lists them."""
        try:
            done = invoke(["adb", "devices", "-l"], timeout_s=LIST_SECONDS)
        except OSError as error:
            raise DeviceError(f"Device '{self.profile.name}': adb cannot be started: {error}.") from error
        if done.late or done.status:
            raise DeviceError(f"Device '{self.profile.name}': adb does not list its devices: {done.err.strip()[:500]}")
        rows = done.out.partition("List of devices attached")[2].splitlines()
        found = [ROW.fullmatch(row.strip()) for row in rows if row.strip() and not row.startswith("*")]
        return {row[1]: row[2] for row in found if row}

    def _only(self, serials: list[str]) -> str:
        if not serials:
            raise DeviceError(
                f"Device '{self.profile.name}': no phone is attached. Plug one in with USB debugging switched on; "
                "'adb devices' has to list it."
            )
        if len(serials) > 1:
            raise TargetError(f"Several phones are attached ({', '.join(serials)}): say which, --connect adb://SERIAL.")
        return serials[0]


DEVICE = AdbDevice
