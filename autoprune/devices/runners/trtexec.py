"""TensorRT through ``trtexec``, for devices without its Python package: 10.x and 11, as their ``--help`` says.

A block of the timing loop is a process, which loads the engine and warms it up. Every default of trtexec's that a time
depends on is set explicitly.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import struct
import subprocess
import tempfile
from typing import Any

from autoprune.devices.runners._cuda import Cuda, CudaError, driver
from autoprune.devices.runners._engines import Engines, file_hash, sparse_layers
from autoprune.devices.runners._onnx import End, ends
from autoprune.devices.runners._tensors import Tensor, batches, joined, packed, unpacked

USUAL = "/usr/src/tensorrt/bin/trtexec"
SECONDS = 1200.0  # for one process; an engine takes minutes to build
WARMUP_MS, PROFILED_RUNS = 200, 30
VERSION = re.compile(r"\[TensorRT v(\d+)\]")
MEMORY = re.compile(r"now: CPU \d+, GPU (\d+) \(MiB\)")
OUT_OF_MEMORY = ("out of memory", "outofmemory", "insufficient memory")
PACKED = {"float32": "f", "float16": "e", "int64": "q", "int32": "i", "int8": "b", "uint8": "B", "bool": "?"}


class RunnerError(Exception):
    """trtexec ended with an error; the errors that it logged are the reason."""

    def __init__(self, message: str, kind: str = "runtime") -> None:
        super().__init__(message)
        self.kind = kind


class Runner:
    """One artifact, its engine built once and kept.

    Options: ``batch``, the engine's where the model leaves it open; ``cuda_graph``; ``workspace_mb``; ``sparse``,
    whether 2:4 may be used; ``trtexec``, its path; ``inputs``, dtype and shape of each tensor in the bytes
    that come with them.
    """

    def __init__(self, path: str, options: dict[str, Any], data: bytes) -> None:
        self._path, self._options = path, options
        self._inputs = unpacked(options["inputs"], data)
        self._tool = Tool(found(options.get("trtexec")))
        self._engine = ""
        self._conditions: dict[str, str] = {}

    def do_hello(self, request: dict[str, Any], data: bytes) -> tuple[dict[str, Any], bytes]:
        """The version of TensorRT, what the GPU is, and how models are run on it."""
        graph = str(bool(self._options.get("cuda_graph"))).lower()
        conditions = {"cuda_graph": graph, "tf32": "false", "data_transfers": "false", "spin_wait": "true"}
        return {"version": self._tool.version, "facts": facts(), "conditions": conditions}, b""

    def do_renew(self, request: dict[str, Any], data: bytes) -> tuple[dict[str, Any], bytes]:
        """Have an engine that takes the inputs; with what the builder said of it."""
        self._build()
        self._check(self._inputs)
        return {"conditions": self._conditions}, b""

    def do_run(self, request: dict[str, Any], data: bytes) -> tuple[dict[str, Any], bytes]:
        """Seconds of ``n`` inferences in a process: the time that the GPU computed, by trtexec's events."""
        return {"seconds": self._time(request["n"])}, b""

    def do_load(self, request: dict[str, Any], data: bytes) -> tuple[dict[str, Any], bytes]:
        """Have an engine for predicting."""
        self._build()
        return {}, b""

    def do_predict(self, request: dict[str, Any], data: bytes) -> tuple[dict[str, Any], bytes]:
        """Outputs of one batch; a process for each part of it that the engine takes."""
        inputs = unpacked(request["inputs"], data)
        size = self._shapes()[0][0]
        return packed(joined([self._predict(part) for part in batches(inputs, size)], inputs[0].shape[0]))

    def do_peak_memory(self, request: dict[str, Any], data: bytes) -> tuple[dict[str, Any], bytes]:
        """What TensorRT says that it holds of the GPU's memory, in steps of 2^20 bytes; at least the engine's size."""
        self._build()
        with tempfile.TemporaryDirectory() as folder:
            said = self._tool.run(*self._measuring(folder, self._inputs, 1))
        held = max([int(number) << 20 for number in MEMORY.findall(said)], default=0)
        return {"peak_memory_bytes": max(held, os.path.getsize(self._engine))}, b""

    def do_profile(self, request: dict[str, Any], data: bytes) -> tuple[dict[str, Any], bytes]:
        """Milliseconds of each layer, and what TensorRT's inspector says of the layers."""
        self._build()
        with tempfile.TemporaryDirectory() as folder:
            times, layers = os.path.join(folder, "times.json"), os.path.join(folder, "layers.json")
            flags = self._tool.known("--dumpProfile", "--separateProfileRun", "--profilingVerbosity=detailed")
            exports = [f"--exportProfile={times}", f"--exportLayerInfo={layers}"]
            self._tool.run(*self._measuring(folder, self._inputs, PROFILED_RUNS), *flags, *exports)
            told = [(one["name"], one["medianMs"]) for one in read_json(times) if "name" in one]
            return {}, json.dumps({"times": told, "layers": read_json(layers)}).encode("utf-8")

    def _build(self) -> None:
        """The engine's path; built if none is kept that was built here from this file in the same way."""
        if self._engine:
            return
        engines, where = Engines(), {"trtexec": self._tool.version, **facts()}
        flags = {name: self._options.get(name) for name in ("batch", "workspace_mb", "sparse")}
        what = {"onnx": file_hash(self._path), "flags": flags, **where}
        known = engines.conditions(what)
        if known is None:
            known = {}
            for line in self._tool.run(
                *self._building(engines.path(what), engines.path(where, ".timings"))
            ).splitlines():
                known.update(sparse_layers(line))
            engines.keep(what, known)
        self._conditions, self._engine = known, engines.path(what)

    def _building(self, engine: str, timings: str) -> list[str]:
        known = self._tool.known("--stronglyTyped", "--noTF32", "--profilingVerbosity=detailed", "--skipInference")
        command = [f"--onnx={self._path}", f"--saveEngine={engine}", f"--timingCacheFile={timings}", *known]
        if self._options.get("sparse"):
            command += ["--sparsity=enable", "--verbose"]  # verbose, or it may not say which layers use it
        if self._options.get("workspace_mb"):
            command.append(f"--memPoolSize=workspace:{self._options['workspace_mb']}M")
        if any(-1 in one.shape for one in self._ends()[0]):
            spec = self._spec()
            command += [f"--minShapes={spec}", f"--optShapes={spec}", f"--maxShapes={spec}"]
        return command

    def _measuring(self, folder: str, inputs: list[Tensor], n: int) -> list[str]:
        """The command that runs the engine at least ``n`` times, with everything set that a time depends on."""
        self._check(inputs)
        wanted = bool(self._options.get("cuda_graph"))
        command = [f"--loadEngine={self._engine}", f"--iterations={n}", "--duration=0", f"--warmUp={WARMUP_MS}"]
        command += ["--avgRuns=1", "--infStreams=1", "--sleepTime=0", "--idleTime=0"]
        command += self._tool.known(
            "--noDataTransfers", "--useSpinWait", "--useCudaGraph" if wanted else "--noCudaGraph"
        )
        files = []
        for number, (one, end) in enumerate(zip(inputs, self._ends()[0])):
            path = os.path.join(folder, f"input{number}.bin")
            with open(path, "wb") as file:
                file.write(one.data)
            files.append(f"{quoted(end.name)}:{path}")
        if any(-1 in one.shape for one in self._ends()[0]):
            command.append(f"--shapes={self._spec()}")
        return [*command, f"--loadInputs={','.join(files)}"]

    def _time(self, n: int) -> list[float]:
        with tempfile.TemporaryDirectory() as folder:
            path = os.path.join(folder, "times.json")
            self._tool.run(*self._measuring(folder, self._inputs, n), f"--exportTimes={path}")
            traces = read_json(path)
        samples = [one["computeMs"] / 1e3 for one in traces if one["startComputeMs"] >= WARMUP_MS]
        if len(samples) < n:
            raise RunnerError(f"trtexec timed {len(samples)} inferences where {n} were asked for.", "device")
        return samples[:n]

    def _predict(self, inputs: list[Tensor]) -> list[Tensor]:
        with tempfile.TemporaryDirectory() as folder:
            path = os.path.join(folder, "outputs.json")
            self._tool.run(*self._measuring(folder, inputs, 1), f"--exportOutput={path}")
            told = {one["name"]: one for one in read_json(path)}
        return [output(told[end.name], end) for end in self._ends()[1]]

    def _check(self, inputs: list[Tensor]) -> None:
        """Raises RunnerError where the inputs are not what the engine takes."""
        wanted = [(end.dtype, shape) for end, shape in zip(self._ends()[0], self._shapes())]
        given = [(one.dtype, one.shape) for one in inputs]
        if given != wanted:
            raise RunnerError(f"trtexec was given other inputs than the model takes: given {given}, wanted {wanted}.")

    def _ends(self) -> tuple[list[End], list[End]]:
        try:
            return ends(self._path)
        except ValueError as error:
            raise RunnerError(f"trtexec cannot read the artifact: {error}") from error

    def _shapes(self) -> list[tuple[int, ...]]:
        """Of the inputs, with the open batch as it is timed."""
        found = [
            tuple(self._options["batch"] if n == -1 else n for n in one.shape[:1]) + one.shape[1:]
            for one in self._ends()[0]
        ]
        if any(-1 in shape for shape in found):
            raise RunnerError(f"trtexec cannot build an engine: more than the batch of an input is open: {found}.")
        return found

    def _spec(self) -> str:
        sizes = ["x".join(map(str, shape)) for shape in self._shapes()]
        return ",".join(f"{quoted(end.name)}:{size}" for end, size in zip(self._ends()[0], sizes))


class Tool:
    """The program: its version and flags, as its ``--help`` tells them. Raises RunnerError of kind ``device``."""

    def __init__(self, path: str) -> None:
        self._path = path
        self._help = self._said("--help")[1]
        number = VERSION.search(self._help)
        if not number:
            raise RunnerError(f"{path} does not say its version: it is no trtexec of TensorRT.", "device")
        major, rest = divmod(int(number.group(1)), 10000)
        self.version = f"{major}.{rest // 100}.{rest % 100}"

    def known(self, *flags: str) -> list[str]:
        """Those that it has: what was a choice in TensorRT 10 is how 11 always is, and the other way round."""
        return [flag for flag in flags if re.search(re.escape(flag.partition("=")[0]) + r"\b", self._help)]

    def run(self, *flags: str) -> str:
        """What it prints. Raises RunnerError where it fails."""
        code, said = self._said(*flags)
        if code == 0:
            return said
        errors = [line for line in said.splitlines() if "[E]" in line] or said.splitlines()[-3:]
        reason = " ".join(errors)[-500:]
        if "Unknown option" in reason:
            raise RunnerError(f"trtexec of TensorRT {self.version} is not used as it wants to be: {reason}", "device")
        if code == -signal.SIGKILL or any(word in reason.lower() for word in OUT_OF_MEMORY):
            raise RunnerError(f"trtexec ran out of memory: {reason}", "out_of_memory")
        raise RunnerError(f"trtexec failed with status {code}: {reason}", "crash" if code < 0 else "runtime")

    def _said(self, *flags: str) -> tuple[int, str]:
        try:
            done = subprocess.run(  # noqa: S603 - an argument list of ours
                [self._path, *flags],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                timeout=SECONDS,
                check=False,
            )
        except OSError as error:
            raise RunnerError(f"trtexec cannot be started: {self._path}: {error.strerror}.", "device") from error
        except subprocess.TimeoutExpired as error:
            raise RunnerError(f"trtexec did not end within {SECONDS:g} s, so it was stopped.", "hang") from error
        return done.returncode, done.stdout.decode("utf-8", "replace")


def found(given: str | None) -> str:
    """The path of trtexec. Raises RunnerError where there is none."""
    path = given or shutil.which("trtexec") or (USUAL if os.path.exists(USUAL) else "")
    if not path:
        message = f"trtexec is neither on the PATH nor at {USUAL}: say where it is in options.trtexec of the profile."
        raise RunnerError(message, "device")
    return path


def facts() -> dict[str, str]:
    """What the GPU is, as far as CUDA's library can be asked."""
    try:
        return Cuda().facts()
    except CudaError:
        return {"driver": driver()} if driver() else {}


def read_json(path: str) -> Any:
    """What trtexec wrote; its C++ writes ``nan`` and ``inf``. Raises RunnerError where it is no JSON."""
    try:
        with open(path, encoding="utf-8", errors="replace") as file:
            text = re.sub(r"(?<=[\s,\[])(-?)inf(?=[\s,\]])", r"\1Infinity", file.read())
        return json.loads(re.sub(r"(?<=[\s,\[])-?nan(?=[\s,\]])", "NaN", text))
    except (OSError, ValueError) as error:
        raise RunnerError(f"trtexec wrote nothing that can be read: {error}.", "device") from error


def output(told: dict[str, Any], end: End) -> Tensor:
    """An output as trtexec exports it: its dimensions as 1x10, its values one after the other."""
    shape = tuple(int(size) for size in re.findall(r"\d+", told["dimensions"]))
    values = told["values"] if PACKED[end.dtype] in "fe" else list(map(int, told["values"]))
    return Tensor(end.dtype, shape, struct.pack(f"<{len(values)}{PACKED[end.dtype]}", *values))


def quoted(name: str) -> str:
    """A tensor's name as trtexec takes it where colons and commas divide."""
    return f"'{name}'" if set(name) & set(":,") else name
