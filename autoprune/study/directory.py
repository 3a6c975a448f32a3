"""The folder of one run: who may write in it, what lies where, and how a file comes to be whole or not at all."""

import gc
import json
import os
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout
from pydantic import ValidationError

from autoprune.errors import RunError, RunLockedError
from autoprune.files import write_whole
from autoprune.records import TrialRecord

RESTORE = "Restore it from a copy, or start a new run."


class RunDirectory:
    """Paths and files of one run.

    ::

        study.db        the Optuna study (SQLite)
        trials/ID.json  one TrialRecord per recipe, written before the study is told
        run.json        resolved configuration, versions, fingerprints
        test.json       what the test split said of finalists, each asked once
        finals.json     the finalists, measured against each other
        log.jsonl       what happened, one JSON object a line
        pareto.json     the front, when the run is finished
        report.html     the report, when the run is finished
        front/ID/       the finalists, ready to deploy
        work/           weights of the present front; may be deleted
    """

    def __init__(self, root: Path) -> None:
        self.root = root
        self.study = root / "study.db"
        self.trials = root / "trials"
        self.run = root / "run.json"
        self.log = root / "log.jsonl"
        self.test = root / "test.json"
        self.finals = root / "finals.json"
        self.pareto = root / "pareto.json"
        self.report = root / "report.html"
        self.front = root / "front"
        self.work = root / "work"

    @classmethod
    def create(cls, root: Path) -> "RunDirectory":
        """A new run in ``root``.

        Raises:
            RunError: it is not `free`, or cannot be written.
        """
        cls.free(root)
        with _said(root):
            (root / "trials").mkdir(parents=True, exist_ok=True)
        return cls(root)

    @staticmethod
    def free(root: Path) -> None:
        """Whether a new run may be made in ``root``: it does not exist, is empty, or was left by a start that died.

        Raises:
            RunError: it holds something; says what to do.
        """
        with _said(root):
            if (root / "run.json").is_file():
                raise RunError(f"{root} already holds a run: continue it with 'autoprune resume {root}'.")
            if root.exists() and not (root.is_dir() and all(_of_a_start(path) for path in root.iterdir())):
                raise RunError(f"{root} is not an empty folder: give another --out.")

    @classmethod
    def open(cls, root: Path) -> "RunDirectory":
        """An existing run.

        Raises:
            RunError: ``root`` is not a run directory.
        """
        if not os.path.isfile(root / "run.json"):
            raise RunError(f"{root} is not a run directory: it has no run.json.")
        return cls(root)

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Be the only driver of this run while the context lasts; the operating system frees the lock of a killed one.

        Raises:
            RunLockedError: another driver holds it; names its pid and host.
        """
        owner = self.root / "driver.json"
        lock = FileLock(self.root / ".lock")
        with _said(self.root):
            try:
                lock.acquire(timeout=0)
            except Timeout:
                raise RunLockedError(f"{self.root} is in use by {_driver(owner)}: wait for it or stop it.") from None
        try:
            self.write(owner, {"pid": os.getpid(), "host": socket.gethostname()})
            yield
        finally:
            owner.unlink(missing_ok=True)
            lock.release()

    def write(self, path: Path, document: Any) -> None:
        """Write ``document`` as JSON so that the file is whole or not there, also after a power cut."""
        self.write_text(path, json.dumps(document, indent=1, allow_nan=False) + "\n")

    def write_text(self, path: Path, text: str) -> None:
        """Write ``text`` the same way.

        Raises:
            RunError: the folder cannot be written or the disk is full; what was there before is untouched.
        """
        with _said(path):
            write_whole(path, text.encode(), durable=True)

    def read(self, path: Path) -> Any:
        """The JSON document at ``path``.

        Raises:
            RunError: it is missing or corrupted; names the file.
        """
        try:
            return json.loads(path.read_text(encoding="utf-8"))
        except (OSError, ValueError, RecursionError) as error:
            raise RunError(f"{path} is missing or corrupted ({error}).") from error

    def save(self, record: TrialRecord) -> None:
        """Keep a record for good."""
        self.write(self.trials / f"{record.recipe.id}.json", record.model_dump(mode="json"))

    def records(self) -> dict[str, TrialRecord]:
        """Every record by recipe id.

        Raises:
            RunError: a record is corrupted or lies under another recipe's name; names the file.
        """
        with _uncollected():
            return {path.stem: _record(path) for path in sorted(self.trials.glob("*.json"))}

    def note(self, event: str, **fields: Any) -> None:
        """Append one line to the log."""
        line = json.dumps({"time": time.strftime("%Y-%m-%dT%H:%M:%S%z"), "event": event, **fields}, default=str)
        with _said(self.log), self.log.open("a", encoding="utf-8") as file:
            file.write(line + "\n")


def _record(path: Path) -> TrialRecord:
    try:
        record = TrialRecord.model_validate_json(path.read_bytes())
    except OSError as error:
        raise RunError(f"{path} is missing or corrupted ({error}).") from error
    except ValidationError as error:
        raise RunError(f"{path} is corrupted: {error.errors()[0]['msg']}. {RESTORE}") from error
    if record.recipe.id != path.stem:
        raise RunError(f"{path} is corrupted: it holds recipe {record.recipe.id}. {RESTORE}")
    return record


@contextmanager
def _uncollected() -> Iterator[None]:
    """Thousands of records are made and none is garbage; looking for cycles in them over and over doubles the time."""
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            gc.enable()


@contextmanager
def _said(path: Path) -> Iterator[None]:
    """Turn an operating system's refusal into a sentence."""
    try:
        yield
    except OSError as error:
        raise RunError(f"{path} cannot be written: {error.strerror or error}.") from error


def _of_a_start(path: Path) -> bool:
    """Whether a run that was killed before it had its ``run.json`` may have left ``path``."""
    if path.is_dir():
        return path.name == "trials" and not any(path.iterdir())
    return path.name in {".lock", "driver.json"} or fnmatch(path.name, ".*.json.*.tmp")


def _driver(owner: Path) -> str:
    try:
        known = json.loads(owner.read_text(encoding="utf-8"))
        return f"the process with pid {known['pid']} on host {known['host']}"
    except (OSError, ValueError, KeyError):
        return "another process"
