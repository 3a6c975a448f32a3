"""A network namespace of its own for a device: its link can go down and come back."""

import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

HOST, DEVICE, PREFIX = "10.213.77.1", "10.213.77.2", 30
MISSING = "no network namespaces here: they need iproute2 and the rights of root"


@dataclass(frozen=True)
class Link:
    """The host's end is ``name``; the device is in namespace ``space``."""

    name: str
    space: str

    @property
    def within(self) -> list[str]:
        """What a program on the device is started with."""
        return ["ip", "netns", "exec", self.space]

    def up(self) -> None:
        """Plugged in."""
        _ip("link", "set", self.name, "up")

    def down(self) -> None:
        """Pulled out: packets vanish, nobody is told."""
        _ip("link", "set", self.name, "down")


@contextmanager
def link(name: str) -> Iterator[Link]:
    """A namespace with an address, `DEVICE`. Raises OSError or CalledProcessError where it is not permitted."""
    found = Link(f"{name}h", name)
    _ip("netns", "add", name)
    try:
        _ip("link", "add", found.name, "type", "veth", "peer", "name", f"{name}d", "netns", name)
        _ip("addr", "add", f"{HOST}/{PREFIX}", "dev", found.name)
        _ip("-n", name, "addr", "add", f"{DEVICE}/{PREFIX}", "dev", f"{name}d")
        _ip("-n", name, "link", "set", f"{name}d", "up")
        found.up()
        yield found
    finally:
        _ip("netns", "del", name)  # and the link with it


def available() -> bool:
    """Whether it is permitted."""
    try:
        with link("approbe"):
            return True
    except (OSError, subprocess.CalledProcessError):
        return False


def _ip(*arguments: str) -> None:
    subprocess.run(["ip", *arguments], check=True, capture_output=True, timeout=10)
