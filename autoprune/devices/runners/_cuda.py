"""CUDA's runtime library through ctypes: memory, one stream, events, graphs. A device needs nothing else for it."""

from __future__ import annotations

import contextlib
import ctypes
from typing import Any

NAMES = ("libcudart.so.13", "libcudart.so.12", "libcudart.so.11.0", "libcudart.so")
OUT_OF_MEMORY = 2  # cudaErrorMemoryAllocation
TO_DEVICE, TO_HOST = 1, 2  # of cudaMemcpyKind
THIS_THREAD = 1  # cudaStreamCaptureModeThreadLocal
MAJOR, MINOR = 75, 76  # attributes: compute capability
PROPERTIES_BYTES, NAME_BYTES = 1 << 14, 256  # cudaDeviceProp begins with the name, whatever follows in which version

_HANDLE, _SIZE, _INT = ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int
_PROTOTYPES: dict[str, tuple[Any, ...]] = {
    "cudaDeviceGetAttribute": (ctypes.POINTER(_INT), _INT, _INT),
    "cudaDriverGetVersion": (ctypes.POINTER(_INT),),
    "cudaEventCreate": (ctypes.POINTER(_HANDLE),),
    "cudaEventDestroy": (_HANDLE,),
    "cudaEventElapsedTime": (ctypes.POINTER(ctypes.c_float), _HANDLE, _HANDLE),
    "cudaEventRecord": (_HANDLE, _HANDLE),
    "cudaEventSynchronize": (_HANDLE,),
    "cudaFree": (_HANDLE,),
    "cudaGetDeviceCount": (ctypes.POINTER(_INT),),
    "cudaGetDeviceProperties": (_HANDLE, _INT),
    "cudaGraphDestroy": (_HANDLE,),
    "cudaGraphExecDestroy": (_HANDLE,),
    "cudaGraphInstantiateWithFlags": (ctypes.POINTER(_HANDLE), _HANDLE, ctypes.c_ulonglong),
    "cudaGraphLaunch": (_HANDLE, _HANDLE),
    "cudaMalloc": (ctypes.POINTER(_HANDLE), _SIZE),
    "cudaMemGetInfo": (ctypes.POINTER(_SIZE), ctypes.POINTER(_SIZE)),
    "cudaMemcpy": (_HANDLE, _HANDLE, _SIZE, _INT),
    "cudaRuntimeGetVersion": (ctypes.POINTER(_INT),),
    "cudaStreamBeginCapture": (_HANDLE, _INT),
    "cudaStreamCreate": (ctypes.POINTER(_HANDLE),),
    "cudaStreamDestroy": (_HANDLE,),
    "cudaStreamEndCapture": (_HANDLE, ctypes.POINTER(_HANDLE)),
    "cudaStreamSynchronize": (_HANDLE,),
}


class CudaError(Exception):
    """A call failed; ``kind`` tells a lack of memory from other failures."""

    def __init__(self, message: str, kind: str = "runtime") -> None:
        super().__init__(message)
        self.kind = kind


class Cuda:
    """The library, and one stream of the first GPU. Raises CudaError of kind ``device`` where there is none."""

    def __init__(self) -> None:
        self._library = _library()
        if not self.get("cudaGetDeviceCount", _INT):
            raise CudaError("CUDA finds no GPU.", "device")
        self._stream: Any = None

    @property
    def stream(self) -> Any:
        """Made when it is first wanted, since the GPU sets memory aside then."""
        if self._stream is None:
            self._stream = self.get("cudaStreamCreate", _HANDLE)
        return self._stream

    def __del__(self) -> None:
        with contextlib.suppress(CudaError, AttributeError):  # where there is no library
            if self._stream is not None:
                self.call("cudaStreamDestroy", self._stream)

    def call(self, name: str, *arguments: Any) -> None:
        """Raises CudaError where CUDA says that it failed."""
        function = getattr(self._library, name)
        function.argtypes, function.restype = _PROTOTYPES[name], _INT
        code = function(*arguments)
        if code:
            raise CudaError(f"{name}: {self._says(code)}", "out_of_memory" if code == OUT_OF_MEMORY else "runtime")

    def get(self, name: str, kind: Any, *arguments: Any) -> Any:
        """What the call writes to its first parameter."""
        found = kind()
        self.call(name, ctypes.byref(found), *arguments)
        return found.value

    def _says(self, code: int) -> str:
        says = self._library.cudaGetErrorString
        says.argtypes, says.restype = (_INT,), ctypes.c_char_p
        return str(says(code).decode("utf-8", "replace"))

    def facts(self) -> dict[str, str]:
        """What the GPU is."""
        properties = ctypes.create_string_buffer(PROPERTIES_BYTES)
        self.call("cudaGetDeviceProperties", properties, 0)
        capability = [self.get("cudaDeviceGetAttribute", _INT, which, 0) for which in (MAJOR, MINOR)]
        found = {
            "gpu": properties.raw[:NAME_BYTES].partition(b"\0")[0].decode("utf-8", "replace"),
            "compute_capability": "{}.{}".format(*capability),
            "cuda": _version(self.get("cudaRuntimeGetVersion", _INT)),
            "cuda_driver": _version(self.get("cudaDriverGetVersion", _INT)),
            "driver": driver(),
        }
        return {name: value for name, value in found.items() if value}

    def free_bytes(self) -> int:
        """Of the GPU's memory."""
        free, total = _SIZE(), _SIZE()
        self.call("cudaMemGetInfo", ctypes.byref(free), ctypes.byref(total))
        return free.value

    def malloc(self, size: int) -> int:
        """The address of new memory on the GPU."""
        return int(self.get("cudaMalloc", _HANDLE, max(size, 1)))

    def write(self, address: int, data: bytes) -> None:
        """Copy to the GPU."""
        self.call("cudaMemcpy", address, ctypes.c_char_p(data), len(data), TO_DEVICE)

    def read(self, address: int, size: int) -> bytes:
        """Copy from the GPU."""
        data = ctypes.create_string_buffer(max(size, 1))
        self.call("cudaMemcpy", data, address, size, TO_HOST)
        return data.raw[:size]

    def wait(self) -> None:
        """Until the stream has done its work."""
        self.call("cudaStreamSynchronize", self.stream)

    def event(self) -> int:
        """A new one."""
        return int(self.get("cudaEventCreate", _HANDLE))

    def seconds(self, launch: Any, n: int) -> list[float]:
        """Of ``n`` launches, each between two events on the stream, the next when the GPU is done with the last."""
        begin, end = self.event(), self.event()
        samples = []
        for _ in range(n):
            self.call("cudaEventRecord", begin, self.stream)
            launch()
            self.call("cudaEventRecord", end, self.stream)
            self.call("cudaEventSynchronize", end)
            samples.append(self.get("cudaEventElapsedTime", ctypes.c_float, begin, end) / 1e3)
        self.call("cudaEventDestroy", begin)
        self.call("cudaEventDestroy", end)
        return samples

    def recorded(self, launch: Any) -> int:
        """A graph that can be launched, of what ``launch`` puts on the stream."""
        graph = _HANDLE()
        self.call("cudaStreamBeginCapture", self.stream, THIS_THREAD)
        try:
            launch()
        finally:  # a stream that goes on recording is of no use any more
            self.call("cudaStreamEndCapture", self.stream, ctypes.byref(graph))
        found = self.get("cudaGraphInstantiateWithFlags", _HANDLE, graph, 0)
        self.call("cudaGraphDestroy", graph)
        return int(found)


def driver() -> str:
    """The version of NVIDIA's driver; on a Jetson the release of its Linux."""
    for path in ("/sys/module/nvidia/version", "/etc/nv_tegra_release"):
        with contextlib.suppress(OSError), open(path, encoding="utf-8", errors="replace") as file:
            return file.readline().strip()
    return ""


def _library() -> Any:
    for name in NAMES:
        with contextlib.suppress(OSError):
            return ctypes.CDLL(name)
    raise CudaError(f"none of CUDA's runtime libraries is found ({', '.join(NAMES)}): install CUDA.", "device")


def _version(number: int) -> str:
    return f"{number // 1000}.{number % 1000 // 10}"
