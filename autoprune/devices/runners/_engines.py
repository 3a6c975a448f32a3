"""Engines of TensorRT, kept with the circumstances that they were built in, for as long as these are the same."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import re
from typing import Any

MOST_BYTES = 2 << 30
SUFFIX = ".engine"


class Engines:
    """A folder of this user's; the least recently used engines go when it is full."""

    def __init__(self) -> None:
        home = os.environ.get("XDG_CACHE_HOME") or os.path.join(os.path.expanduser("~"), ".cache")
        self.folder = os.path.join(home, "autoprune-engines")
        os.makedirs(self.folder, mode=0o700, exist_ok=True)

    def path(self, circumstances: dict[str, Any], suffix: str = SUFFIX) -> str:
        """Of what belongs to these circumstances, whether it is there or not."""
        name = hashlib.sha256(_text(circumstances)).hexdigest()
        return os.path.join(self.folder, name + suffix)

    def conditions(self, circumstances: dict[str, Any]) -> dict[str, str] | None:
        """What the builder said of the engine of these circumstances; None where there is no such engine."""
        try:
            with open(self.path(circumstances, ".json"), "rb") as file:
                kept = json.loads(file.read())
            with open(self.path(circumstances), "rb") as file:
                whole = hashlib.sha256(file.read()).hexdigest()
            os.utime(self.path(circumstances))
            if kept["circumstances"] != json.loads(_text(circumstances)) or kept["sha256"] != whole:
                return None
            return {str(name): str(value) for name, value in kept["conditions"].items()}
        except (OSError, ValueError, KeyError, TypeError, AttributeError):
            return None

    def keep(self, circumstances: dict[str, Any], conditions: dict[str, str]) -> None:
        """Note under what circumstances the engine at its path was built, and what the builder said of it."""
        with open(self.path(circumstances), "rb") as file:
            digest = hashlib.sha256(file.read()).hexdigest()
        kept = {"circumstances": circumstances, "conditions": conditions, "sha256": digest}
        write_whole(self.path(circumstances, ".json"), _text(kept))
        self._make_room()

    def _make_room(self) -> None:
        engines = [entry for entry in os.scandir(self.folder) if entry.name.endswith(SUFFIX)]
        engines.sort(key=lambda entry: entry.stat().st_mtime)
        total = sum(entry.stat().st_size for entry in engines)
        for entry in engines[:-1]:
            if total <= MOST_BYTES:
                break
            total -= entry.stat().st_size
            for path in (entry.path, entry.path[: -len(SUFFIX)] + ".json"):
                with contextlib.suppress(OSError):
                    os.remove(path)


def write_whole(path: str, data: bytes) -> None:
    """The file whole, or as it was before."""
    draft = f"{path}.{os.getpid()}"
    with open(draft, "wb") as file:
        file.write(data)
    os.replace(draft, path)


def file_hash(path: str) -> str:
    """SHA-256 of a file."""
    with open(path, "rb") as file:
        return hashlib.sha256(file.read()).hexdigest()


def sparse_layers(line: str) -> dict[str, str]:
    """How many layers could use 2:4 sparsity, or do, if a line of the builder's log tells; some list their names."""
    _, found, said = line.partition("(Sparsity)")
    number = re.search(r"(\d+) layer", said)
    names = [name for name in said.partition(":")[2].split(",") if name.strip()]
    count = number.group(1) if number else str(len(names))
    if not found:
        return {}
    if "eligible" in said:
        return {"sparse_eligible": count}
    return {"sparse_picked": count} if "picked" in said or "Chose" in said else {}


def _text(value: dict[str, Any]) -> bytes:
    return json.dumps(value, sort_keys=True).encode("utf-8")
