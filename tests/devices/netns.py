"""A network namespace of its own for a device: its link can go down and come back."""

import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from tests.devices import sshd

NETWORK = f"10.213.{os.getpid() % 256}"  # so that two runs of the tests do not meet
HOST, DEVICE, PREFIX = f"{NETWORK}.1", f"{NETWORK}.2", 30
MISSING = "no network namespaces here: they need iproute2 and the rights of root"


@dataclass(frozen=True)
class Link:
    """What leads into the namespace ``space``, where the device is."""

    space: str

    @property
    def within(self) -> list[str]:
        """What a program on the device is started with."""
        return ["ip", "netns", "exec", self.space]

    def up(self) -> None:
        """Plugged in."""
        _ip("-n", self.space, "link", "set", f"{self.space}d", "up")

    def down(self) -> None:
        """Pulled out at the device's end: packets vanish, nobody is told."""
        _ip("-n", self.space, "link", "set", f"{self.space}d", "down")


@contextmanager
def link(name: str) -> Iterator[Link]:
    """A namespace with an address, `DEVICE`. Raises OSError or CalledProcessError where it is not permitted."""
    _ip("netns", "add", name)
    try:
        _ip("link", "add", f"{name}h", "type", "veth", "peer", "name", f"{name}d", "netns", name)
        _ip("addr", "add", f"{HOST}/{PREFIX}", "dev", f"{name}h")
        _ip("-n", name, "addr", "add", f"{DEVICE}/{PREFIX}", "dev", f"{name}d")
        _ip("link", "set", f"{name}h", "up")
        found = Link(name)
        found.up()
        yield found
    finally:
        with suppress(subprocess.CalledProcessError):  # what still runs in the namespace would keep it and the link
            _ip("link", "del", f"{name}h")
        _ip("netns", "del", name)


@contextmanager
def device(folder: Path) -> Iterator[tuple[Link, Path]]:
    """A device behind a link of its own that ssh knows as ``device``; see `sshd.running`."""
    with link(f"ap{os.getpid()}") as found, sshd.running(folder, address=DEVICE, within=found.within) as path:
        yield found, path


def available() -> bool:
    """Whether it is permitted."""
    try:
        with link(f"pr{os.getpid()}"):
            return True
    except (OSError, subprocess.CalledProcessError):
        return False


def _ip(*arguments: str) -> None:
    subprocess.run(["ip", *arguments], check=True, capture_output=True, timeout=10)
