"""What runs on a device: keeps artifacts and runs them. Sent over a connection, never installed.

Standard library only, Python 3.8 or newer; no part of autoprune is imported. It talks in frames on standard input and
output: two lengths (of a JSON header, 4 bytes; of bytes that follow it, 8 bytes; big-endian), the header, the bytes.
One request, one reply. A runtime is a ``Runner`` whose source comes with the request that opens an artifact. It works
in a child process of its own, so that what hangs is killed at its deadline with all that it started, what crashes takes
nothing with it, and a connection that breaks leaves nothing behind but the cache of artifacts.
"""

from __future__ import annotations

import contextlib
import ctypes
import fcntl
import hashlib
import importlib
import json
import os
import platform
import select
import signal
import socket
import struct
import sys
import time
from typing import IO, Any, Callable, NoReturn

PROTOCOL = 1
LENGTHS = struct.Struct(">IQ")
MOST_HEADER, MOST_BYTES, PART = 1 << 20, 2 << 30, 1 << 20
CACHE_BYTES = 2 << 30
PARENT_DEATH_SIGNAL = 1  # of prctl
ALONE_SECONDS = 90.0  # a host that holds a lease and asks nothing for so long is gone, whatever its connection says
DEADLY = ("hang", "crash", "out_of_memory")  # kinds of error after which a worker is no more


class RefusedError(Exception):
    """What the host is told: a short word for grouping, and a sentence."""

    def __init__(self, kind: str, message: str) -> None:
        super().__init__(message)
        self.kind = kind


def read_frame(read: Callable[[int], bytes]) -> tuple[dict[str, Any], bytes] | None:
    """Header and bytes; None at the end of the stream. Raises RefusedError where lengths or header are wrong."""
    lengths = _exactly(read, LENGTHS.size)
    if len(lengths) < LENGTHS.size:
        return None
    header_size, size = LENGTHS.unpack(lengths)
    if header_size > MOST_HEADER or size > MOST_BYTES:
        raise RefusedError("protocol", f"a frame of {header_size} and {size} bytes is too large")
    text, data = _exactly(read, header_size), _exactly(read, size)
    if len(text) < header_size or len(data) < size:
        return None
    try:
        header = json.loads(text.decode("utf-8"))
    except (ValueError, RecursionError):
        raise RefusedError("protocol", "the header of a frame is not JSON") from None
    if not isinstance(header, dict):
        raise RefusedError("protocol", "the header of a frame is not an object")
    return header, data


def _exactly(read: Callable[[int], bytes], size: int) -> bytes:
    """``size`` bytes; fewer at the end of the stream."""
    parts: list[bytes] = []
    while size:
        part = read(min(size, PART))
        if not part:
            break
        parts.append(part)
        size -= len(part)
    return b"".join(parts)


def write_frame(stream: Any, header: dict[str, Any], data: bytes = b"") -> None:
    """The opposite of `read_frame`."""
    text = json.dumps(header).encode("utf-8")
    stream.write(LENGTHS.pack(len(text), len(data)) + text + data)
    stream.flush()


class Worker:
    """A child process with one runner.

    ``hang_up`` becomes readable when the host is gone, since it sends nothing before it has its reply.
    """

    def __init__(self, source: bytes, options: dict[str, Any], path: str, data: bytes, hang_up: IO[bytes]) -> None:
        here, there = socket.socketpair()
        self._hang_up = hang_up
        self.pid = os.fork()
        if not self.pid:
            here.close()
            _work(there, source, options, path, data)
        there.close()
        self._socket = here
        self._file = here.makefile("rwb")

    def ask(self, header: dict[str, Any], data: bytes, timeout_s: float) -> tuple[dict[str, Any], bytes]:
        """The reply to one request. Raises RefusedError: the runner failed, hung, ended; EOFError: the host is gone."""
        frame = None
        with contextlib.suppress(OSError):
            write_frame(self._file, header, data)
            self._wait(timeout_s)
            frame = read_frame(self._file.read)
        if frame is None:
            raise self._ended()
        reply, data = frame
        if "error" in reply:
            raise RefusedError(reply["error"], reply["message"])
        return reply, data

    def _wait(self, timeout_s: float) -> None:
        ready, _, _ = select.select([self._socket.fileno(), self._hang_up.fileno()], [], [], timeout_s)
        if self._socket.fileno() in ready:
            return
        self.close()
        if ready:
            raise EOFError
        raise RefusedError("hang", f"nothing came back within {timeout_s:g} s, so it was stopped.")

    def _ended(self) -> RefusedError:
        _, status = os.waitpid(self.pid, 0)
        self.pid = 0
        number = os.WTERMSIG(status) if os.WIFSIGNALED(status) else 0
        if number == signal.SIGKILL:
            return RefusedError("out_of_memory", "the process was killed, most likely for want of memory.")
        how = f"by signal {number}" if number else f"with status {os.WEXITSTATUS(status)}"
        return RefusedError("crash", f"the runtime ended the process {how}.")

    def close(self) -> None:
        """Kill the child and all that it started."""
        with contextlib.suppress(OSError):
            self._file.close()
        self._socket.close()
        if self.pid:
            for kill in (os.killpg, os.kill):  # it may have no group yet
                with contextlib.suppress(OSError):
                    kill(self.pid, signal.SIGKILL)
            os.waitpid(self.pid, 0)
            self.pid = 0


def _work(there: socket.socket, source: bytes, options: dict[str, Any], path: str, data: bytes) -> NoReturn:
    """The life of a worker."""
    status = 1
    try:
        os.setsid()
        if sys.platform == "linux":
            ctypes.CDLL(None).prctl(PARENT_DEATH_SIGNAL, signal.SIGKILL)
        stream = there.makefile("rwb")
        room: dict[str, Any] = {"__name__": "runner"}
        runner = None
        for request, more in iter(lambda: read_frame(stream.read), None):
            reply: dict[str, Any]
            try:
                if runner is None:
                    exec(compile(source, "runner", "exec"), room)  # noqa: S102 - what the host sent
                    runner = room["Runner"](path, options, data)
                if request["do"] == "foreign":
                    reply, out = {"seconds": foreign_seconds()}, b""
                else:
                    reply, out = getattr(runner, "do_" + request["do"])(request, more)
            except Exception as error:
                reply, out = _reason(error), b""
            write_frame(stream, reply, out)
        status = 0
    finally:
        os._exit(status)


def _reason(error: Exception) -> dict[str, Any]:
    """What the host is told of what a runner raised."""
    if isinstance(error, ImportError):
        return {"error": "missing", "message": str(error.name)}
    kind = "out_of_memory" if isinstance(error, MemoryError) else str(getattr(error, "kind", "runtime"))
    return {"error": kind, "message": str(error)[:2000] or type(error).__name__}


class Cache:
    """Artifacts by their hash, in one folder; the least recently used go when it is full."""

    def __init__(self, folder: str) -> None:
        self.folder = folder

    def path(self, name: str) -> str:
        """Where the artifact of that hash is, if it is there."""
        if not isinstance(name, str) or len(name) != 64 or not set(name) <= set("0123456789abcdef"):
            raise RefusedError("protocol", "an artifact is named by its SHA-256.")
        return os.path.join(self.folder, name)

    def has(self, name: str) -> bool:
        """Whether it is there; if so, it was used now."""
        try:
            os.utime(self.path(name))
        except OSError:
            return False
        return True

    def put(self, name: str, data: bytes) -> None:
        """Keep it, whole or not at all."""
        path = self.path(name)
        if hashlib.sha256(data).hexdigest() != name:
            raise RefusedError("protocol", "an artifact did not arrive as it was sent.")
        draft = f"{path}.{os.getpid()}"
        try:
            os.makedirs(self.folder, mode=0o700, exist_ok=True)
            self._make_room(len(data))
            with open(draft, "wb") as file:
                file.write(data)
            os.replace(draft, path)
        except OSError as error:
            with contextlib.suppress(OSError):
                os.remove(draft)
            raise RefusedError("disk", f"an artifact cannot be kept in {self.folder}: {error.strerror}.") from error

    def _make_room(self, size: int) -> None:
        files = sorted(os.scandir(self.folder), key=lambda entry: entry.stat().st_mtime)
        total = size + sum(entry.stat().st_size for entry in files)
        for entry in files:
            if total <= CACHE_BYTES:
                break
            total -= entry.stat().st_size
            os.remove(entry.path)


class Agent:
    """Answers requests: ``do_*`` take header and bytes, and give header and bytes."""

    def __init__(self, folder: str, hang_up: IO[bytes]) -> None:
        self.cache = Cache(folder)
        self._hang_up = hang_up
        self._workers: dict[int, Worker] = {}
        self._opened = 0
        self._locks: dict[str, int] = {}

    def answer(self, request: dict[str, Any], data: bytes) -> tuple[dict[str, Any], bytes]:
        """The reply to one request. Raises RefusedError, or what an incomplete request leads to."""
        method = getattr(self, "do_" + str(request.get("do")), None)
        if method:
            reply: tuple[dict[str, Any], bytes] = method(request, data)
            return reply
        if request.get("worker") not in self._workers:
            raise RefusedError("protocol", f"there is nothing to do '{request.get('do')}' with.")
        return self._asked(request["worker"], request, data)

    def _asked(self, name: int, request: dict[str, Any], data: bytes) -> tuple[dict[str, Any], bytes]:
        try:
            return self._workers[name].ask(request, data, float(request["timeout_s"]))
        except RefusedError as refused:
            if refused.kind in DEADLY:
                self._workers.pop(name).close()
            raise

    def do_hello(self, request: dict[str, Any], data: bytes) -> tuple[dict[str, Any], bytes]:
        """What answers here."""
        return {"protocol": PROTOCOL, "python": platform.python_version()}, b""

    def do_has(self, request: dict[str, Any], data: bytes) -> tuple[dict[str, Any], bytes]:
        """Whether the artifact ``sha256`` is here."""
        return {"has": self.cache.has(request["sha256"])}, b""

    def do_put(self, request: dict[str, Any], data: bytes) -> tuple[dict[str, Any], bytes]:
        """Keep the artifact ``sha256``."""
        self.cache.put(request["sha256"], data)
        return {}, b""

    def do_open(self, request: dict[str, Any], data: bytes) -> tuple[dict[str, Any], bytes]:
        """Start a worker; the source of its runner comes first in the bytes, then what the runner wants."""
        source, rest = data[: request["source_bytes"]], data[request["source_bytes"] :]
        path = self.cache.path(request["sha256"]) if "sha256" in request else str(request.get("path", ""))
        for name in request.get("imports", ()):  # here, so that every worker need not
            with contextlib.suppress(ImportError):
                importlib.import_module(name)
        self._opened += 1
        self._workers[self._opened] = Worker(source, dict(request["options"]), path, rest, self._hang_up)
        try:
            reply, out = self._asked(self._opened, dict(request, do="hello"), b"")
        except RefusedError:
            self.do_close({"worker": self._opened}, b"")
            raise
        return dict(reply, worker=self._opened), out

    def do_in_turn(self, request: dict[str, Any], data: bytes) -> tuple[dict[str, Any], bytes]:
        """What a worker replies to ``steps``, one after the other; the first that fails ends it."""
        return {"replies": [self._asked(request["worker"], dict(step), b"")[0] for step in request["steps"]]}, b""

    def do_close(self, request: dict[str, Any], data: bytes) -> tuple[dict[str, Any], bytes]:
        """End a worker, if it is still there."""
        worker = self._workers.pop(request["worker"], None)
        if worker:
            worker.close()
        return {}, b""

    def do_lease(self, request: dict[str, Any], data: bytes) -> tuple[dict[str, Any], bytes]:
        """Hold what must not be shared while timing, if nobody else here does, an autoprune of this machine neither."""
        name = str(request["name"])
        if not name.isalnum():
            raise RefusedError("protocol", "a lease has a name of letters and digits.")
        if name not in self._locks:
            flags = os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW
            self._locks[name] = os.open(f"/tmp/autoprune-{name}.lock", flags, 0o666)  # noqa: S108 - of all users
            with contextlib.suppress(OSError):
                os.fchmod(self._locks[name], 0o666)
        try:
            fcntl.flock(self._locks[name], fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return {"held": False}, b""
        return {"held": True}, b""

    def do_release(self, request: dict[str, Any], data: bytes) -> tuple[dict[str, Any], bytes]:
        """The opposite of ``do_lease``; also what happens when the agent ends."""
        if request["name"] in self._locks:
            file = self._locks.pop(request["name"])
            fcntl.flock(file, fcntl.LOCK_UN)  # a worker that was started meanwhile has it too
            os.close(file)
        return {}, b""

    @property
    def leased(self) -> bool:
        """Whether others wait for this one."""
        return bool(self._locks)

    def close(self) -> None:
        """End all workers."""
        for worker in self._workers.values():
            worker.close()


def foreign_seconds() -> float | None:
    """CPU seconds of all other processes so far, divided by the cores; None where the system does not tell."""
    fields = _read("/proc/stat").partition("\n")[0].split()[1:9]  # user nice system idle iowait irq softirq steal
    if len(fields) < 8:
        return None
    busy = sum(int(fields[n]) for n in (0, 1, 2, 5, 6, 7)) / os.sysconf("SC_CLK_TCK")
    return (busy - time.process_time()) / (os.cpu_count() or 1)


def _read(path: str) -> str:
    try:
        with open(path, encoding="utf-8", errors="replace") as file:
            return file.read().strip()
    except OSError:
        return ""


def serve(stdin: IO[bytes], stdout: IO[bytes], folder: str) -> None:
    """Answer until the host is gone."""
    agent = Agent(folder, stdin)
    try:
        while True:
            data = b""
            if agent.leased and not select.select([stdin.fileno()], [], [], ALONE_SECONDS)[0]:
                break
            try:
                frame = read_frame(stdin.read)
                if frame is None:
                    break
                reply, data = agent.answer(*frame)
            except RefusedError as refused:
                reply = {"error": refused.kind, "message": str(refused)}
            except (KeyError, TypeError, ValueError, OSError) as error:
                reply = {"error": "protocol", "message": f"what was asked cannot be done: {error!r}."}
            write_frame(stdout, reply, data)
    except (EOFError, BrokenPipeError):
        pass
    finally:
        agent.close()


def main() -> None:
    """Speak on standard input and output; whatever else prints goes to standard error."""
    stdout = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)
    home = os.environ.get("XDG_CACHE_HOME") or os.path.join(os.path.expanduser("~"), ".cache")
    serve(os.fdopen(0, "rb", 0), stdout, os.path.join(home, "autoprune-agent"))


if __name__ == "__main__":
    main()
