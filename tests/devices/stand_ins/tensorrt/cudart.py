"""A stand-in for CUDA's runtime library, as its reference documents it: what is called wrongly gets an error code.

The "GPU" is this process. Graphs are lists of what was put on the stream while it was recorded.
"""

import ctypes
import time
from collections.abc import Callable

INVALID_VALUE, INVALID_HANDLE, CAPTURE = 1, 400, 900
TOTAL = 8 << 30
P, H, N, S = ctypes.POINTER, ctypes.c_void_p, ctypes.c_int, ctypes.c_size_t
PROTOTYPES = {
    "cudaDeviceGetAttribute": (P(N), N, N),
    "cudaDriverGetVersion": (P(N),),
    "cudaEventCreate": (P(H),),
    "cudaEventDestroy": (H,),
    "cudaEventElapsedTime": (P(ctypes.c_float), H, H),
    "cudaEventRecord": (H, H),
    "cudaEventSynchronize": (H,),
    "cudaFree": (H,),
    "cudaGetDeviceCount": (P(N),),
    "cudaGetDeviceProperties": (H, N),
    "cudaGetErrorString": (N,),
    "cudaGraphDestroy": (H,),
    "cudaGraphExecDestroy": (H,),
    "cudaGraphInstantiateWithFlags": (P(H), H, ctypes.c_ulonglong),
    "cudaGraphLaunch": (H, H),
    "cudaMalloc": (P(H), S),
    "cudaMemGetInfo": (P(S), P(S)),
    "cudaMemcpy": (H, H, S, N),
    "cudaRuntimeGetVersion": (P(N),),
    "cudaStreamBeginCapture": (H, N),
    "cudaStreamCreate": (P(H),),
    "cudaStreamDestroy": (H,),
    "cudaStreamEndCapture": (H, P(H)),
    "cudaStreamSynchronize": (H,),
}


class Cudart:
    """The library; its functions are looked up as ``ctypes`` does."""

    def __init__(self) -> None:
        self.calls: list[str] = []
        self.gpus = 1
        self.memory: dict[int, ctypes.Array[ctypes.c_char]] = {}
        self.engine_bytes = 0
        self.handles: dict[int, object] = {}
        self.recording: list[Callable[[], None]] | None = None
        self.text = ctypes.create_string_buffer(b"invalid argument")
        for name, types in PROTOTYPES.items():
            kind = H if name == "cudaGetErrorString" else N
            setattr(self, name, ctypes.CFUNCTYPE(kind, *types)(self._told(name)))

    def _told(self, name: str) -> Callable[..., int]:
        def function(*arguments: object) -> int:
            self.calls.append(name)
            return int(getattr(self, "_" + name)(*arguments) or 0)

        return function

    def _new(self, handle: object) -> int:
        self.handles[number := 0x1000 + 16 * len(self.handles) + len(self.calls)] = handle
        return number

    def launch(self, work: Callable[[], None], stream: int) -> bool:
        """What TensorRT puts on a stream: done, or recorded."""
        if self.handles.get(stream) != "stream":
            return False
        if self.recording is None:
            work()
        else:
            self.recording.append(work)
        return True

    def _cudaDeviceGetAttribute(self, out, which, device):
        out[0] = {75: 8, 76: 7}[which]

    def _cudaDriverGetVersion(self, out):
        out[0] = 12060

    _cudaRuntimeGetVersion = _cudaDriverGetVersion

    def _cudaEventCreate(self, out):
        out[0] = self._new([None])

    def _drop(self, handle):
        return 0 if self.handles.pop(handle, None) is not None else INVALID_HANDLE

    _cudaEventDestroy = _cudaStreamDestroy = _cudaGraphDestroy = _cudaGraphExecDestroy = _drop

    def _cudaEventElapsedTime(self, out, start, end):
        times = [self.handles[event][0] for event in (start, end)]
        if None in times:
            return INVALID_HANDLE
        out[0] = 1e3 * (times[1] - times[0])

    def _cudaEventRecord(self, event, stream):
        if self.handles.get(stream) != "stream":
            return INVALID_HANDLE
        self.handles[event][0] = time.perf_counter()

    def _cudaEventSynchronize(self, event):
        return 0 if self.handles[event][0] else INVALID_HANDLE

    def _cudaFree(self, address):
        return 0 if self.memory.pop(address, None) is not None else INVALID_VALUE

    def _cudaGetDeviceCount(self, out):
        out[0] = self.gpus

    def _cudaGetDeviceProperties(self, out, device):
        ctypes.memmove(out, b"Stand-in GPU\0", 13)

    def _cudaGetErrorString(self, code):
        return ctypes.addressof(self.text)

    def _cudaGraphInstantiateWithFlags(self, out, graph, flags):
        if not isinstance(self.handles.get(graph), list):
            return INVALID_HANDLE
        out[0] = self._new(list(self.handles[graph]))

    def _cudaGraphLaunch(self, graph, stream):
        if self.handles.get(stream) != "stream":
            return INVALID_HANDLE
        for work in self.handles[graph]:
            work()

    def _cudaMalloc(self, out, size):
        if sum(map(len, self.memory.values())) + size > TOTAL:
            return 2
        buffer = ctypes.create_string_buffer(size)
        self.memory[ctypes.addressof(buffer)] = buffer
        out[0] = ctypes.addressof(buffer)

    def _cudaMemGetInfo(self, free, total):
        free[0], total[0] = TOTAL - self.engine_bytes - sum(map(len, self.memory.values())), TOTAL

    def _cudaMemcpy(self, target, source, size, kind):
        on_gpu = {1: target, 2: source}[kind]
        if self.recording is not None:
            return CAPTURE
        if on_gpu not in self.memory or len(self.memory[on_gpu]) < size:
            return INVALID_VALUE
        ctypes.memmove(target, source, size)

    def _cudaStreamBeginCapture(self, stream, mode):
        if self.handles.get(stream) != "stream" or self.recording is not None or mode not in (0, 1, 2):
            return INVALID_VALUE
        self.recording = []

    def _cudaStreamCreate(self, out):
        out[0] = self._new("stream")

    def _cudaStreamEndCapture(self, stream, out):
        out[0], self.recording = self._new(self.recording), None

    def _cudaStreamSynchronize(self, stream):
        return CAPTURE if self.recording is not None else 0
