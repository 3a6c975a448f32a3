"""TensorRT 10.3 to 11 through its Python package; CUDA through ctypes. Nothing else has to be on the device.

Networks are strongly typed: the precision is what the ONNX file says. Source of the calls: NVIDIA's API reference.
"""

from __future__ import annotations

import contextlib
import json
import math
from typing import Any

from autoprune.devices.runners._cuda import Cuda, CudaError
from autoprune.devices.runners._engines import Engines, file_hash, sparse_layers, write_whole
from autoprune.devices.runners._tensors import SIZES, Tensor, batches, joined, packed, unpacked

PROFILED_RUNS, MEMORY_RUNS = 30, 3
TYPES = {
    "FLOAT": "float32",
    "HALF": "float16",
    "INT64": "int64",
    "INT32": "int32",
    "INT8": "int8",
    "UINT8": "uint8",
    "BOOL": "bool",
}
OUT_OF_MEMORY = ("out of memory", "outofmemory", "insufficient memory")
MOST_SAID = 500


class RunnerError(Exception):
    """TensorRT refused something; what it logged is the reason."""

    def __init__(self, what: str, said: list[str]) -> None:
        reason = " ".join(said)[-MOST_SAID:] or "it gave no reason."
        super().__init__(f"TensorRT {what}: {reason}")
        self.kind = "out_of_memory" if any(word in reason.lower() for word in OUT_OF_MEMORY) else "runtime"


class Runner:
    """One artifact, its engine built once and kept; what is timed is what predicts.

    Options: ``batch``, the engine's where the model leaves it open; ``cuda_graph``; ``workspace_mb``; ``sparse``,
    whether 2:4 may be used; ``inputs``, dtype and shape of each tensor in the bytes that come with them.
    """

    def __init__(self, path: str, options: dict[str, Any], data: bytes) -> None:
        import tensorrt

        self._trt, self._path, self._options = tensorrt, path, options
        self._inputs = unpacked(options["inputs"], data)
        self._cuda = Cuda()
        self._logger = logger(tensorrt)
        self._plan: bytes | None = None
        self._conditions: dict[str, str] = {}
        self._loaded: Any = None

    def do_hello(self, request: dict[str, Any], data: bytes) -> tuple[dict[str, Any], bytes]:
        """The version of the runtime, what the GPU is, and how models are run on it."""
        graph = str(bool(self._options.get("cuda_graph"))).lower()
        conditions = {"cuda_graph": graph, "tf32": "false"}
        return {"version": self._trt.__version__, "facts": self._cuda.facts(), "conditions": conditions}, b""

    def do_renew(self, request: dict[str, Any], data: bytes) -> tuple[dict[str, Any], bytes]:
        """Load, elsewhere in memory than before; with what the builder said of the engine."""
        self._load().bind(self._inputs)
        self._loaded.warm(graph=bool(self._options.get("cuda_graph")))
        return {"conditions": self._conditions}, b""

    def do_run(self, request: dict[str, Any], data: bytes) -> tuple[dict[str, Any], bytes]:
        """Seconds of ``n`` inferences, between CUDA's events."""
        return {"seconds": self._cuda.seconds(self._loaded.launch, request["n"])}, b""

    def do_load(self, request: dict[str, Any], data: bytes) -> tuple[dict[str, Any], bytes]:
        """Load for predicting."""
        self._load()
        return {}, b""

    def do_predict(self, request: dict[str, Any], data: bytes) -> tuple[dict[str, Any], bytes]:
        """Outputs of one batch, in runs of as many samples as the engine takes."""
        inputs = unpacked(request["inputs"], data)
        return packed(
            joined([self._loaded.predict(part) for part in batches(inputs, self._loaded.batch)], inputs[0].shape[0])
        )

    def do_peak_memory(self, request: dict[str, Any], data: bytes) -> tuple[dict[str, Any], bytes]:
        """How much less of the GPU's memory is free while the model is loaded and run."""
        self._engine()
        before = self._cuda.free_bytes()
        loaded = self._load()
        loaded.bind(self._inputs)
        least = before
        for _ in range(MEMORY_RUNS):
            loaded.execute()
            self._cuda.wait()
            least = min(least, self._cuda.free_bytes())
        return {"peak_memory_bytes": max(before - least, loaded.bytes)}, b""

    def do_profile(self, request: dict[str, Any], data: bytes) -> tuple[dict[str, Any], bytes]:
        """Milliseconds of each layer in each of several runs, and what TensorRT's inspector says of the layers."""
        loaded = self._load()
        loaded.bind(self._inputs)
        profile = {"times": loaded.profile(PROFILED_RUNS), "layers": json.loads(loaded.layers())}
        return {}, json.dumps(profile).encode("utf-8")

    def _load(self) -> Any:
        plan = self._engine()
        if self._loaded is not None:
            self._loaded.close()
        self._loaded = Loaded(self._trt, self._cuda, self._logger, plan)
        return self._loaded

    def _engine(self) -> bytes:
        """The engine, built if none is kept that was built here from this file in the same way."""
        if self._plan is None:
            engines = Engines()
            what = self._circumstances()
            known = engines.conditions(what)
            if known is None:
                write_whole(engines.path(what), self._build(engines))
                engines.keep(what, self._logger.sparsity)
                known = self._logger.sparsity
            self._conditions = known
            with open(engines.path(what), "rb") as file:
                self._plan = file.read()
        return self._plan

    def _circumstances(self) -> dict[str, Any]:
        flags = {name: self._options.get(name) for name in ("batch", "workspace_mb", "sparse")}
        return {"onnx": file_hash(self._path), "flags": flags, **self._where()}

    def _where(self) -> dict[str, Any]:
        return {"tensorrt": self._trt.__version__, **self._cuda.facts()}

    def _build(self, engines: Engines) -> bytes:
        trt, said = self._trt, self._logger.errors
        builder = trt.Builder(self._logger)
        network = builder.create_network(strongly_typed(trt))
        parser = trt.OnnxParser(network, self._logger)
        with open(self._path, "rb") as file:
            if not parser.parse(file.read()):
                told = [str(parser.get_error(n)) for n in range(parser.num_errors)]
                raise RunnerError("cannot read the ONNX file", told or said)
        config = self._config(builder, network)
        timings = engines.path(self._where(), ".timings")
        config.set_timing_cache(config.create_timing_cache(kept(timings)), False)
        plan = builder.build_serialized_network(network, config)
        if plan is None:
            raise RunnerError("cannot build an engine", said)
        write_whole(timings, bytes(config.get_timing_cache().serialize()))
        return bytes(plan)

    def _config(self, builder: Any, network: Any) -> Any:
        trt = self._trt
        config = builder.create_builder_config()
        config.clear_flag(trt.BuilderFlag.TF32)  # FP32 means FP32
        config.profiling_verbosity = trt.ProfilingVerbosity.DETAILED
        if self._options.get("sparse"):
            config.set_flag(trt.BuilderFlag.SPARSE_WEIGHTS)
        if self._options.get("workspace_mb"):
            config.set_memory_pool_limit(trt.MemoryPoolType.WORKSPACE, self._options["workspace_mb"] << 20)
        inputs = [network.get_input(n) for n in range(network.num_inputs)]
        if any(-1 in tuple(one.shape) for one in inputs):
            profile = builder.create_optimization_profile()
            for one in inputs:
                shape = fixed(one.name, tuple(one.shape), self._options["batch"])
                profile.set_shape(one.name, shape, shape, shape)
            config.add_optimization_profile(profile)
        return config


class Loaded:
    """An engine with a context, and memory for its inputs and outputs."""

    def __init__(self, trt: Any, cuda: Cuda, log: Any, plan: bytes) -> None:
        self._trt, self._cuda, self._log = trt, cuda, log
        self._runtime = trt.Runtime(log)
        self._engine = self._runtime.deserialize_cuda_engine(plan)
        if self._engine is None:
            raise RunnerError("cannot load its engine", log.errors)
        self._context = self._engine.create_execution_context()
        if self._context is None:
            raise RunnerError("cannot make room for running the engine", log.errors)
        names = [self._engine.get_tensor_name(n) for n in range(self._engine.num_io_tensors)]
        modes = {name: self._engine.get_tensor_mode(name) for name in names}
        self._names = [name for name in names if modes[name] == trt.TensorIOMode.INPUT]
        self._outputs = [name for name in names if modes[name] == trt.TensorIOMode.OUTPUT]
        self._shapes = {name: self._shape(name) for name in self._names}
        self._graph: int | None = None
        self._memory = {name: cuda.malloc(self._size(name)) for name in self._names}
        for name in self._names:
            self._context.set_input_shape(name, self._shapes[name])
        self._shapes.update({name: tuple(self._context.get_tensor_shape(name)) for name in self._outputs})
        self._memory.update({name: cuda.malloc(self._size(name)) for name in self._outputs})
        for name, address in self._memory.items():
            self._context.set_tensor_address(name, address)

    def _shape(self, name: str) -> tuple[int, ...]:
        shape = tuple(self._engine.get_tensor_shape(name))
        return tuple(self._engine.get_tensor_profile_shape(name, 0)[1]) if -1 in shape else shape

    def _dtype(self, name: str) -> str:
        kind = self._engine.get_tensor_dtype(name).name
        if kind not in TYPES:
            raise RunnerError("has a tensor of a type that is not known here", [f"'{name}' is {kind}."])
        return TYPES[kind]

    def _size(self, name: str) -> int:
        return SIZES[self._dtype(name)] * math.prod(self._shapes[name])

    @property
    def batch(self) -> int:
        """Samples that the engine takes at once."""
        return int(self._shapes[self._names[0]][0])

    @property
    def bytes(self) -> int:
        """Of inputs and outputs."""
        return sum(map(self._size, self._memory))

    def bind(self, inputs: list[Tensor]) -> None:
        """Put ``inputs`` in place. Raises RunnerError where they are not what the engine takes."""
        wanted = [(self._dtype(name), self._shapes[name]) for name in self._names]
        given = [(one.dtype, one.shape) for one in inputs]
        if given != wanted:
            raise RunnerError("was given other inputs than the model takes", [f"given {given}, wanted {wanted}."])
        for name, one in zip(self._names, inputs):
            self._cuda.write(self._memory[name], one.data)

    def execute(self) -> None:
        """Put one inference on the stream."""
        if not self._context.execute_async_v3(self._cuda.stream):
            raise RunnerError("cannot run the engine", self._log.errors)

    def warm(self, *, graph: bool) -> None:
        """Run once, and record a graph where one is wanted."""
        self.execute()
        self._cuda.wait()
        if graph:
            try:
                self._graph = self._cuda.recorded(self.execute)
            except CudaError as error:
                what = "cannot record this model as a CUDA graph (set options.cuda_graph: false)"
                raise RunnerError(what, [str(error)]) from error

    def launch(self) -> None:
        """Put one inference on the stream, as it is timed."""
        if self._graph is None:
            self.execute()
        else:
            self._cuda.call("cudaGraphLaunch", self._graph, self._cuda.stream)

    def predict(self, inputs: list[Tensor]) -> list[Tensor]:
        """Outputs of one batch."""
        self.bind(inputs)
        self.execute()
        self._cuda.wait()
        return [
            Tensor(self._dtype(name), self._shapes[name], self._cuda.read(self._memory[name], self._size(name)))
            for name in self._outputs
        ]

    def profile(self, runs: int) -> list[tuple[str, float]]:
        """Layers and milliseconds, run after run."""
        self.execute()
        self._cuda.wait()
        self._context.profiler = profiler = layer_times(self._trt)
        for _ in range(runs):
            self.execute()
            self._cuda.wait()
        return list(profiler.times)

    def layers(self) -> str:
        """JSON."""
        inspector = self._engine.create_engine_inspector()
        return str(inspector.get_engine_information(self._trt.LayerInformationFormat.JSON))

    def close(self) -> None:
        """Give the memory back."""
        if self._graph is not None:
            self._cuda.call("cudaGraphExecDestroy", self._graph)
        while self._memory:
            self._cuda.call("cudaFree", self._memory.popitem()[1])
        self._graph = self._context = self._engine = self._runtime = None

    def __del__(self) -> None:
        with contextlib.suppress(CudaError, AttributeError):  # where it was never made whole
            self.close()


def logger(trt: Any) -> Any:
    """A logger that keeps errors, and what the builder says of sparsity."""

    class Logger(trt.ILogger):  # type: ignore[misc]
        def __init__(self) -> None:
            trt.ILogger.__init__(self)
            self.errors: list[str] = []
            self.sparsity: dict[str, str] = {}

        def log(self, severity: Any, msg: str) -> None:
            if severity in (trt.ILogger.Severity.ERROR, trt.ILogger.Severity.INTERNAL_ERROR):
                self.errors.append(msg)
            self.sparsity.update(sparse_layers(msg))

    return Logger()


def layer_times(trt: Any) -> Any:
    """A profiler that keeps what it is told."""

    class Profiler(trt.IProfiler):  # type: ignore[misc]
        def __init__(self) -> None:
            trt.IProfiler.__init__(self)
            self.times: list[tuple[str, float]] = []

        def report_layer_time(self, layer_name: str, ms: float) -> None:
            self.times.append((layer_name, ms))

    return Profiler()


def strongly_typed(trt: Any) -> int:
    """Flags of the network; in TensorRT 11 there is no other kind, and the flag may be gone."""
    flag = getattr(trt.NetworkDefinitionCreationFlag, "STRONGLY_TYPED", None)
    return 0 if flag is None else 1 << int(flag)


def fixed(name: str, shape: tuple[int, ...], batch: int) -> tuple[int, ...]:
    """``shape`` with its open batch. Raises RunnerError where more than that is open."""
    if -1 in shape[1:]:
        raise RunnerError("cannot build an engine", [f"input '{name}' leaves more than the batch open: {shape}."])
    return tuple(batch if size == -1 else size for size in shape)


def kept(path: str) -> bytes:
    """Of a file; nothing where it is not there."""
    try:
        with open(path, "rb") as file:
            return file.read()
    except OSError:
        return b""
