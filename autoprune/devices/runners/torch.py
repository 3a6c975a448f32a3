"""PyTorch itself, eager or compiled, on the CPU or an NVIDIA GPU: in this process, or in a worker of the agent."""

from __future__ import annotations

import contextlib
import json
import time
from collections.abc import Callable, Iterator
from typing import Any

from autoprune.devices.runners._base import MEMORY_RUNS, PROFILED_RUNS, BaseRunner, in_batches, quiet

WARM_RUNS = 3  # before a CUDA graph is recorded, as PyTorch's documentation asks for


class Runner(BaseRunner):
    """A program of ``torch.export``. To load anew is to move its weights: compiling takes too long for each block.

    Options, beside those of `BaseRunner`: ``processor``, cpu or cuda; ``compiled``; ``cuda_graph``; ``sparse``, whether
    2:4 may be used on the GPU.
    """

    name = "PyTorch"

    def __init__(self, path: str, options: dict[str, Any], data: bytes) -> None:
        super().__init__(path, options, data)
        self._gpu = options.get("processor") == "cuda"
        self._module: Any = None
        self._sparse = 0

    def import_runtime(self) -> Any:
        """Its module."""
        import torch

        return torch

    def do_hello(self, request: dict[str, Any], data: bytes) -> tuple[dict[str, Any], bytes]:
        """The version of the runtime, what the GPU is, and how models are run."""
        torch = self.import_runtime()
        flags = {name: str(bool(self._options.get(name))).lower() for name in ("compiled", "cuda_graph")}
        conditions = {"processor": "cuda" if self._gpu else "cpu", "tf32": "false", **flags}
        facts = {}
        if self._gpu:
            if not torch.cuda.is_available():
                raise RuntimeError("PyTorch finds no GPU: it is a build without CUDA, or there is none.")
            capability = torch.cuda.get_device_capability()
            facts = {"gpu": torch.cuda.get_device_name(), "compute_capability": "{}.{}".format(*capability)}
            facts["cuda"] = str(torch.version.cuda)
        return {"version": torch.__version__, "facts": facts, "conditions": conditions}, b""

    def do_renew(self, request: dict[str, Any], data: bytes) -> tuple[dict[str, Any], bytes]:
        """Load, elsewhere in memory than before; with how many layers use 2:4."""
        with self._as_timed(self._options["threads"]):
            super().do_renew(request, data)
        return {"conditions": {"sparse_picked": str(self._sparse)} if self._options.get("sparse") else {}}, b""

    def do_run(self, request: dict[str, Any], data: bytes) -> tuple[dict[str, Any], bytes]:
        """Seconds of ``n`` inferences: by this device's clock, on a GPU between its events."""
        with self._as_timed(self._options["threads"]):
            if not self._gpu:
                return super().do_run(request, data)
            with self.failing():
                return {"seconds": [self._between_events() for _ in range(request["n"])]}, b""

    def do_predict(self, request: dict[str, Any], data: bytes) -> tuple[dict[str, Any], bytes]:
        """Outputs of one batch, described like the inputs."""
        with self.import_runtime().inference_mode():
            return super().do_predict(request, data)

    def do_peak_memory(self, request: dict[str, Any], data: bytes) -> tuple[dict[str, Any], bytes]:
        """Of the resident set; on a GPU, of what PyTorch sets aside there."""
        with self._as_timed(self._options["threads"]):
            if not self._gpu:
                return super().do_peak_memory(request, data)
            cuda = self.import_runtime().cuda
            cuda.reset_peak_memory_stats()
            with self.failing():
                session = self.load(self._options["threads"])
                for _ in range(MEMORY_RUNS):
                    self.predict(session, self._inputs)
            return {"peak_memory_bytes": cuda.max_memory_allocated()}, b""

    def do_profile(self, request: dict[str, Any], data: bytes) -> tuple[dict[str, Any], bytes]:
        """Name, operator and microseconds of each node of the graph, run by run, one node at a time."""
        torch = self.import_runtime()
        with self._as_timed(self._options["threads"]), self.failing():
            interpreter = timed(torch, self._program())
            inputs = self._tensors(self._inputs)
            for _ in range(PROFILED_RUNS):
                interpreter.run(*inputs)
        return {}, json.dumps(interpreter.times).encode("utf-8")

    def load(self, threads: int) -> Any:
        """The module, its weights where they were not before."""
        torch = self.import_runtime()
        if self._module is None:
            self._module = self._program()
            self._sparse = sparsified(torch, self._module) if self._options.get("sparse") and self._gpu else 0
            with quiet():
                self._call = torch.compile(self._module) if self._options.get("compiled") else self._module
        elif not self._sparse:
            with torch.inference_mode(False):
                for value in [*self._module.parameters(), *self._module.buffers()]:
                    value.data = value.data.clone()
        return self._call

    def bind(self, session: Any) -> Callable[[], object]:
        """The inference of the inputs; as a CUDA graph where one is wanted."""
        torch, inputs = self.import_runtime(), self._tensors(self._inputs)
        with quiet():
            session(*inputs)  # compiles
        if not (self._gpu and self._options.get("cuda_graph")):
            return lambda: session(*inputs)
        beside = torch.cuda.Stream()
        beside.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(beside):
            for _ in range(WARM_RUNS):
                session(*inputs)
        torch.cuda.current_stream().wait_stream(beside)
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph):
            self._outputs = session(*inputs)
        replay: Callable[[], object] = graph.replay
        return replay

    def predict(self, session: Any, inputs: list[Any]) -> list[Any]:
        """Output arrays of any number of samples."""
        leaves = self.import_runtime().utils._pytree.tree_leaves

        def one(batch: list[Any]) -> list[Any]:
            with quiet() if self._options.get("compiled") else contextlib.nullcontext():  # it may compile again
                return [value.numpy(force=True) for value in leaves(session(*self._tensors(batch)))]

        return in_batches(one, inputs, self._batch) if self._batch else one(inputs)

    def _program(self) -> Any:
        """The module of the artifact, and the batch that it takes: 0 for any."""
        torch = self.import_runtime()
        from torch.export.passes import move_to_device_pass as move

        torch.backends.cudnn.allow_tf32 = False  # FP32 means FP32; for products of matrices it is off as it is
        with torch.inference_mode(False):
            program = move(torch.export.load(self._path), "cuda" if self._gpu else "cpu")
            takes = [node for node in program.graph.nodes if node.name in program.graph_signature.user_inputs]
            sizes = [node.meta["val"].shape[0] for node in takes if node.meta["val"].dim()]
            self._batch = sizes[0] if sizes and isinstance(sizes[0], int) else 0
            return program.module()

    def _tensors(self, arrays: list[Any]) -> list[Any]:
        tensors = map(self.import_runtime().from_numpy, arrays)
        return [tensor.cuda() if self._gpu else tensor for tensor in tensors]

    def _between_events(self) -> float:
        assert self._infer is not None
        cuda = self.import_runtime().cuda
        begin, end = (cuda.Event(enable_timing=True) for _ in range(2))
        begin.record()
        self._infer()
        end.record()
        end.synchronize()
        return float(begin.elapsed_time(end)) / 1e3

    @contextlib.contextmanager
    def _as_timed(self, threads: int) -> Iterator[None]:
        """So many threads in this process, which may have other work for PyTorch, and no gradients."""
        torch = self.import_runtime()
        before = torch.get_num_threads()
        torch.set_num_threads(threads)
        try:
            with torch.inference_mode():
                yield
        finally:
            torch.set_num_threads(before)


def timed(torch: Any, module: Any) -> Any:
    """An interpreter of the module's graph that notes how long each node takes."""

    class Interpreter(torch.fx.Interpreter):  # type: ignore[misc]
        def __init__(self) -> None:
            super().__init__(module)
            self.times: list[tuple[str, str, float]] = []

        def run_node(self, n: Any) -> Any:
            began = time.perf_counter()
            found = super().run_node(n)
            if torch.cuda.is_initialized():
                torch.cuda.synchronize()
            if n.op == "call_function":
                self.times.append((n.name, str(n.target), 1e6 * (time.perf_counter() - began)))
            return found

    return Interpreter()


def sparsified(torch: Any, module: Any) -> int:
    """Give matrices with two zeros in every four PyTorch's semi-structured form; how many could take it."""
    count = 0
    for name, weight in list(module.named_parameters()):
        if weight.dim() != 2 or weight.shape[1] % 4 or weight.dtype != torch.float16:
            continue
        if int((weight.detach().reshape(-1, 4) != 0).sum(1).max()) > 2:
            continue
        with contextlib.suppress(RuntimeError):  # sizes that its kernels do not take
            owner = module.get_submodule(name.rpartition(".")[0])
            packed = torch.sparse.to_sparse_semi_structured(weight.detach())
            setattr(owner, name.rpartition(".")[2], torch.nn.Parameter(packed, requires_grad=False))
            count += 1
    return count
