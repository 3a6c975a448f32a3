"""nn.Module -> ATen graph with the user's parameter names, by ``torch.export``."""

from __future__ import annotations

import contextlib
import operator
import warnings
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.export import Dim, ExportedProgram
from torch.fx import Graph, GraphModule

from autoprune.errors import CaptureError
from autoprune.graph.inline import inline_regions
from autoprune.graph.nodes import is_symbolic
from autoprune.graph.shuffle import permute_shuffles

_CHECKS = ("_assert", "sym_constrain_range")


@dataclass(frozen=True)
class Captured:
    """The dense model: graph, tensors by the user's names (tied ones are one tensor), and the traced examples."""

    graph: Graph
    state: dict[str, Tensor]
    constants: Mapping[str, Tensor | GraphModule]
    in_spec: object
    out_spec: object
    example_inputs: tuple[Tensor, ...]
    dynamic_batch: bool


def capture(module: nn.Module, example_inputs: tuple[Tensor, ...]) -> Captured:
    """Export the evaluation-mode model with a dynamic batch (dimension 0), or a static one where export refuses.

    Raises CaptureError with the exporter's complaint when both are refused.
    """
    examples = tuple(_at_least_two(value) for value in example_inputs)
    with _evaluation(module), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the exporter's advice to model authors
        program, dynamic = _export(module, examples, example_inputs)
    traced = program.module(check_guards=False)
    if not isinstance(traced, GraphModule):
        raise CaptureError(f"torch.export returned a {type(traced).__name__}, not a graph. Report this as a bug.")
    inline_regions(traced)
    _drop_checks(traced.graph)
    state = _snapshot(module, traced)
    constants: dict[str, Tensor | GraphModule] = dict(permute_shuffles(traced))
    constants |= {name: value for name, value in traced.named_children() if isinstance(value, GraphModule)}
    used = examples if dynamic else example_inputs
    return Captured(traced.graph, state, constants, traced._in_spec, traced._out_spec, used, dynamic)


def _at_least_two(value: Tensor) -> Tensor:
    """A batch of one would be specialised: 0 and 1 are constants to the exporter."""
    return torch.cat([value, value]) if value.dim() and value.shape[0] == 1 else value


def _export(
    module: nn.Module, batched: tuple[Tensor, ...], original: tuple[Tensor, ...]
) -> tuple[ExportedProgram, bool]:
    shapes = tuple({0: Dim.AUTO} if value.dim() else None for value in batched)
    with contextlib.suppress(Exception):  # some models refuse a dynamic batch only; the second attempt tells
        program = torch.export.export(module, batched, dynamic_shapes=shapes, strict=False)
        return program, _is_dynamic(program)
    try:
        return torch.export.export(module, original, strict=False), False
    except Exception as error:
        lines = str(error).strip().splitlines() or [type(error).__name__]
        raise CaptureError(
            f"torch.export cannot capture {type(module).__name__}: {lines[0]} "
            "Remove data-dependent control flow from forward(), or pass the part of the model that has none."
        ) from error


def _is_dynamic(program: ExportedProgram) -> bool:
    values = [node.meta.get("val") for node in program.graph.nodes if node.op == "placeholder"]
    return any(isinstance(value, Tensor) and any(map(is_symbolic, value.shape)) for value in values)


@contextlib.contextmanager
def _evaluation(module: nn.Module) -> Iterator[None]:
    """Evaluation mode, without the fused transformer path that hides its operators; the user's modes come back."""
    modes = [(child, child.training) for child in module.modules()]
    fused = torch.backends.mha.get_fastpath_enabled()
    torch.backends.mha.set_fastpath_enabled(False)
    module.eval()
    try:
        with torch.enable_grad():
            yield
    finally:
        torch.backends.mha.set_fastpath_enabled(fused)
        for child, training in modes:
            child.training = training


def _drop_checks(graph: Graph) -> None:
    """Erase guards and assertions: they name sizes of the dense model."""
    for node in reversed(graph.nodes):
        name = getattr(node.target, "__name__", str(node.target)).removeprefix("aten.")
        guard = node.op == "call_module" and node.target == "_guards_fn"
        if guard or (node.op == "call_function" and name.startswith(_CHECKS)):
            graph.erase_node(node)
    graph.eliminate_dead_code(lambda node: node.is_impure() and node.target is not operator.getitem)


def _snapshot(module: nn.Module, traced: GraphModule) -> dict[str, Tensor]:
    """Copies of the tensors in the user's order, then what the exporter lifted; one copy per tied tensor.

    A module of which the graph uses nothing (an auxiliary head) is left out.
    """
    copies: dict[int, Tensor] = {}
    state: dict[str, Tensor] = {}
    used = {str(node.target) for node in traced.graph.nodes if node.op == "get_attr" and node.users}
    shared = {id(value) for name, value in _tensors(module) if name in used}
    owners = {name.rpartition(".")[0] for name, value in _tensors(module) if id(value) in shared}
    for source in (module, traced):
        for name, value in _tensors(source):
            known = name.rpartition(".")[0] in owners if source is module else name in used
            if name not in state and known:
                state[name] = copies.setdefault(id(value), _copy(value))
    return state


def _tensors(module: nn.Module) -> Iterator[tuple[str, Tensor]]:
    for prefix, child in module.named_modules(remove_duplicate=False):
        dot = f"{prefix}." if prefix else ""
        for name, value in [*child._parameters.items(), *child._buffers.items()]:
            if value is not None:
                yield dot + name, value
        for name, value in vars(child).items():
            if isinstance(value, Tensor):
                yield dot + name, value


def _copy(value: Tensor) -> Tensor:
    copy = value.detach().clone()
    return nn.Parameter(copy, requires_grad=value.requires_grad) if isinstance(value, nn.Parameter) else copy
