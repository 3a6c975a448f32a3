"""Files that are whole or not there, whatever is killed in between; and how long what they cache is true."""

import contextlib
import hashlib
import os
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

PACKAGE = Path(__file__).parent


def write_whole(path: Path, data: bytes, *, durable: bool = False) -> None:
    """Write ``data`` so that ``path`` is absent, as before, or whole; makes its folder.

    With ``durable``, the file outlives a power cut too once this returns. Raises OSError; ``path`` is then untouched.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    draft = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        with draft.open("wb") as file:
            file.write(data)
            if durable:
                file.flush()
                os.fsync(file.fileno())
        draft.replace(path)
        if durable:
            _sync_folder(path.parent)
    finally:
        draft.unlink(missing_ok=True)


def _sync_folder(folder: Path) -> None:
    """Make a rename durable; only POSIX systems can open a folder for it."""
    if os.name != "posix":
        return
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def code_digest(*rooms: str, package: Path = PACKAGE) -> str:
    """SHA-256 over autoprune's version and the code of these rooms, by which a cache knows that it is out of date.

    Takes some milliseconds.
    """
    digest = hashlib.sha256()
    with contextlib.suppress(PackageNotFoundError):  # a checkout that is not installed
        digest.update(version("autoprune").encode())
    for room in rooms:
        for path in sorted((package / room).rglob("*.py")):
            digest.update(path.relative_to(package).as_posix().encode() + b"\0" + path.read_bytes() + b"\0")
    return digest.hexdigest()
