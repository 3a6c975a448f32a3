"""A stand-in for NVIDIA's ``tensorrt``: the documented calls alone, with their signatures, order and types.

What it builds is computed by ONNX Runtime. ``STAND_IN_TENSORRT`` sets the version: 10.3.0, as on JetPack 6, or 11,
which lacks what 11 removed. Importing it puts a stand-in in the place of CUDA's runtime library.
"""

import ctypes
import enum
import json
import os
import time

import numpy as np
import onnx
import onnxruntime

from tensorrt.cudart import Cudart

__version__ = os.environ.get("STAND_IN_TENSORRT", "10.3.0")
MAJOR = int(__version__.partition(".")[0])
CUDART = Cudart()
CALLS: list[tuple[str, object]] = []
_load = ctypes.CDLL


def _cdll(name, *arguments, **options):
    return CUDART if "libcudart" in str(name) else _load(name, *arguments, **options)


ctypes.CDLL = _cdll

DataType = enum.Enum("DataType", "FLOAT HALF BF16 INT8 INT32 INT64 BOOL UINT8 FP8")
TensorIOMode = enum.Enum("TensorIOMode", "NONE INPUT OUTPUT")
MemoryPoolType = enum.Enum("MemoryPoolType", "WORKSPACE DLA_MANAGED_SRAM")
ProfilingVerbosity = enum.Enum("ProfilingVerbosity", "LAYER_NAMES_ONLY NONE DETAILED")
LayerInformationFormat = enum.Enum("LayerInformationFormat", "ONELINE JSON")
_FLAGS = "REFIT DISABLE_TIMING_CACHE TF32 SPARSE_WEIGHTS" + (" FP16 INT8" if MAJOR < 11 else "")
BuilderFlag = enum.Enum("BuilderFlag", _FLAGS)
NetworkDefinitionCreationFlag = enum.IntEnum(
    "NetworkDefinitionCreationFlag", {"EXPLICIT_BATCH": 0, **({"STRONGLY_TYPED": 1} if MAJOR < 11 else {})}
)
TYPES = {1: DataType.FLOAT, 10: DataType.HALF, 7: DataType.INT64, 6: DataType.INT32}
NUMPY = {DataType.FLOAT: np.float32, DataType.HALF: np.float16, DataType.INT64: np.int64, DataType.INT32: np.int32}


class ILogger:
    Severity = enum.Enum("Severity", "INTERNAL_ERROR ERROR WARNING INFO VERBOSE")

    def __init__(self):
        self.initialised = True


class IProfiler:
    def __init__(self):
        self.initialised = True


def _checked(logger):
    assert isinstance(logger, ILogger), "a logger is wanted"
    assert getattr(logger, "initialised", False), "ILogger.__init__ has to be called explicitly"
    return logger


class Tensor:
    def __init__(self, value):
        self.name = value.name
        kind = value.type.tensor_type
        self.dtype = TYPES.get(kind.elem_type, DataType.FP8)
        self.shape = tuple(dim.dim_value if dim.HasField("dim_value") else -1 for dim in kind.shape.dim)


class Network:
    model = None

    def __init__(self, flags):
        assert isinstance(flags, int)
        assert flags == (2 if MAJOR < 11 else 0), "the network has to be strongly typed, by a flag that there is"

    @property
    def num_inputs(self):
        return len(self.model.graph.input)

    def get_input(self, index: int):
        return Tensor(self.model.graph.input[index])


class OnnxParser:
    def __init__(self, network, logger):
        assert isinstance(network, Network)
        self.network, self.logger, self.errors = network, _checked(logger), []

    @property
    def num_errors(self):
        return len(self.errors)

    def get_error(self, index: int):
        return self.errors[index]

    def parse(self, model: bytes, path: str | None = None) -> bool:
        try:
            self.network.model = onnx.load_model_from_string(model)
            onnx.checker.check_model(self.network.model)
        except Exception as error:
            self.errors.append(f"In node 0 with name:  and operator: (parseGraph): INVALID_GRAPH: {error!r}"[:200])
            return False
        weights = {one.name: one for one in self.network.model.graph.initializer}
        for node in self.network.model.graph.node:
            points = node.op_type in ("QuantizeLinear", "DequantizeLinear") and len(node.input) > 2
            point = weights[node.input[2]] if points else None
            if point is not None and (
                point.data_type != onnx.TensorProto.INT8 or onnx.numpy_helper.to_array(point).any()
            ):
                self.errors.append(
                    f"In node 0 with name: {node.name} and operator: {node.op_type}: zero point is not 0 of INT8"
                )
        return not self.errors


class TimingCache:
    def __init__(self, data):
        self.data = data

    def serialize(self):
        return memoryview(b"timings")


class OptimizationProfile:
    def __init__(self):
        self.shapes = {}

    def set_shape(self, input: str, min, opt, max):
        assert all(low <= best <= high and low > 0 for low, best, high in zip(min, opt, max, strict=True))
        self.shapes[input] = [tuple(min), tuple(opt), tuple(max)]


class BuilderConfig:
    profiling_verbosity = ProfilingVerbosity.LAYER_NAMES_ONLY

    def __init__(self):
        self.flags, self.profiles, self.pools, self.cache = {BuilderFlag.TF32}, [], {}, None

    def set_flag(self, flag):
        self.flags.add(BuilderFlag(flag))

    def clear_flag(self, flag):
        self.flags.discard(BuilderFlag(flag))

    def set_memory_pool_limit(self, pool, pool_size: int):
        self.pools[MemoryPoolType(pool)] = int(pool_size)

    def create_timing_cache(self, serialized_timing_cache: bytes):
        assert isinstance(serialized_timing_cache, bytes)
        CALLS.append(("create_timing_cache", serialized_timing_cache))
        return TimingCache(serialized_timing_cache)

    def set_timing_cache(self, cache, ignore_mismatch: bool) -> bool:
        self.cache = cache
        return True

    def get_timing_cache(self):
        return self.cache

    def add_optimization_profile(self, profile) -> int:
        assert isinstance(profile, OptimizationProfile)
        self.profiles.append(profile)
        return len(self.profiles) - 1


class Builder:
    def __init__(self, logger):
        self.logger = _checked(logger)

    def create_network(self, flags: int = 0):
        return Network(flags)

    def create_builder_config(self):
        return BuilderConfig()

    def create_optimization_profile(self):
        return OptimizationProfile()

    def build_serialized_network(self, network, config):
        assert isinstance(network, Network)
        assert isinstance(config, BuilderConfig)
        CALLS.append(("build_serialized_network", config))
        if BuilderFlag.SPARSE_WEIGHTS in config.flags:
            for line in SPARSITY:
                self.logger.log(ILogger.Severity.INFO, line)
        shapes = {}
        for number in range(network.num_inputs):
            one = network.get_input(number)
            shapes[one.name] = [one.shape] * 3
            if -1 in one.shape:
                if not config.profiles or one.name not in config.profiles[0].shapes:
                    self.logger.log(ILogger.Severity.ERROR, "Network has dynamic inputs, but no optimization profile.")
                    return None
                shapes[one.name] = config.profiles[0].shapes[one.name]
        header = json.dumps({"version": __version__, "shapes": shapes}).encode()
        return memoryview(header + b"\n" + network.model.SerializeToString())


SPARSITY = (
    [
        "(Sparsity) Layers eligible for sparse math: conv0, conv1",
        "(Sparsity) TRT inference plan picked sparse implementation for layers: conv1",
    ]
    if MAJOR < 11
    else [
        "(Sparsity) Found 2 layer(s) eligible to use sparse tactics",
        "(Sparsity) Chose 1 layer(s) using sparse tactics",
    ]
)


class Runtime:
    def __init__(self, logger):
        self.logger = _checked(logger)

    def deserialize_cuda_engine(self, serialized_engine: bytes):
        header, _, model = serialized_engine.partition(b"\n")
        told = json.loads(header)
        if told["version"] != __version__:
            self.logger.log(
                ILogger.Severity.ERROR, "The engine plan file is not compatible with this version of TensorRT"
            )
            return None
        return Engine(model, told["shapes"], self.logger)


class Engine:
    def __init__(self, model, shapes, logger):
        self.model, self.shapes, self.logger = model, shapes, logger
        graph = onnx.load_model_from_string(model).graph
        self.nodes = graph.node
        self.tensors = [Tensor(one) for one in (*graph.input, *graph.output)]
        self.modes = [TensorIOMode.INPUT] * len(graph.input) + [TensorIOMode.OUTPUT] * len(graph.output)
        CUDART.engine_bytes += len(model)

    def __del__(self):
        CUDART.engine_bytes -= len(self.model)

    def _one(self, name):
        return next(number for number, one in enumerate(self.tensors) if one.name == name)

    @property
    def num_io_tensors(self):
        return len(self.tensors)

    def get_tensor_name(self, index: int):
        return self.tensors[index].name

    def get_tensor_mode(self, name: str):
        return self.modes[self._one(name)]

    def get_tensor_shape(self, name: str):
        return self.tensors[self._one(name)].shape

    def get_tensor_dtype(self, name: str):
        return self.tensors[self._one(name)].dtype

    def get_tensor_profile_shape(self, name: str, profile_index: int):
        assert profile_index == 0
        return [tuple(shape) for shape in self.shapes[name]]

    def create_execution_context(self):
        return Context(self)

    def create_engine_inspector(self):
        return Inspector(self)


class Inspector:
    def __init__(self, engine):
        self.engine = engine

    def get_engine_information(self, format):
        assert format is LayerInformationFormat.JSON
        layers = [{"Name": node.name, "LayerType": node.op_type} for node in self.engine.nodes]
        return json.dumps({"Layers": layers, "Bindings" if MAJOR < 11 else "I/O Tensors": []})


class Context:
    profiler = None

    def __init__(self, engine):
        self.engine, self.given, self.addresses = engine, {}, {}
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = 1
        self.session = onnxruntime.InferenceSession(engine.model, options, providers=["CPUExecutionProvider"])

    def set_input_shape(self, name: str, shape) -> bool:
        assert tuple(shape) == tuple(self.engine.shapes[name][1])
        self.given[name] = tuple(shape)
        return True

    def get_tensor_shape(self, name: str):
        assert self.given, "shapes of outputs are known when those of the inputs are"
        return tuple(
            self._run({one: np.zeros(shape, self._type(one)) for one, shape in self.given.items()})[name].shape
        )

    def _type(self, name):
        return NUMPY[self.engine.get_tensor_dtype(name)]

    def _run(self, inputs):
        names = [one.name for one in self.session.get_outputs()]
        return dict(zip(names, self.session.run(names, inputs), strict=True))

    def set_tensor_address(self, name: str, memory: int) -> bool:
        assert memory in CUDART.memory, "memory of the GPU is wanted"
        self.addresses[name] = memory
        return True

    def execute_async_v3(self, stream_handle: int) -> bool:
        assert isinstance(stream_handle, int)
        if len(self.addresses) < len(self.engine.tensors):
            self.engine.logger.log(ILogger.Severity.ERROR, "a tensor has no address")
            return False
        return CUDART.launch(self._work, stream_handle)

    def _work(self):
        inputs = {}
        for name, shape in self.given.items():
            size = int(np.prod(shape)) * np.dtype(self._type(name)).itemsize
            inputs[name] = np.frombuffer(ctypes.string_at(self.addresses[name], size), self._type(name)).reshape(shape)
        began = time.perf_counter()
        for name, array in self._run(inputs).items():
            ctypes.memmove(self.addresses[name], np.ascontiguousarray(array).tobytes(), array.nbytes)
        if self.profiler is not None:
            assert self.profiler.initialised
            share = 1e3 * (time.perf_counter() - began) / len(self.engine.nodes)
            for node in self.engine.nodes:
                self.profiler.report_layer_time(node.name, share)
