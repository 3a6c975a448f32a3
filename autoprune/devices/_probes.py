"""What was measured once on a device, and is read from the user's cache from then on."""

import contextlib
import hashlib
from collections.abc import Callable
from typing import TypeVar

import platformdirs
from pydantic import ValidationError

from autoprune.devices._base import Device
from autoprune.documents import Strict
from autoprune.files import write_whole

Found = TypeVar("Found", bound=Strict)


def probed(device: Device, folder: str, kind: type[Found], probe: Callable[[Device], Found]) -> Found:
    """What ``probe`` finds, once per fingerprint and settings; kept in ``folder``. Raises what it raises."""
    settings = f"{device.profile.options.model_dump_json()} {device.profile.capabilities.may_be('2:4')}"
    name = f"{device.fingerprint}-{hashlib.sha256(settings.encode()).hexdigest()[:8]}.json"
    path = platformdirs.user_cache_path("autoprune") / folder / name
    with contextlib.suppress(OSError, ValidationError, UnicodeDecodeError):
        return kind.model_validate_json(path.read_text(encoding="utf-8"))
    with device.lease():
        found = probe(device)
    with contextlib.suppress(OSError):  # a cache that cannot be written costs seconds next time
        write_whole(path, found.model_dump_json(indent=1).encode())
    return found
