"""nn.Module -> one ONNX file, by ``torch.onnx`` (dynamo) and ONNX Script's optimizer.

Two steps. `translate` gives a graph whose weights are still the user's tensors under the user's names; `finish` folds
BatchNormalization and transposed weights, drops what changes nothing and what is not arithmetic, and writes the file.
Between the two, ``autoprune.export.fast`` exchanges weights and sizes, so that a fresh and a fast export end in the
same graph.
"""

from __future__ import annotations

import contextlib
import hashlib
import inspect
import logging
import warnings
from collections.abc import Iterator
from inspect import Parameter
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn
from torch.fx import Graph

from autoprune.errors import StageError
from autoprune.export._torchlib import read_once
from autoprune.export.identities import remove_identities
from autoprune.files import write_whole
from autoprune.records import Artifact

if TYPE_CHECKING:
    import onnx
    import onnx_ir

MAX_BYTES = 2**31 - 1
"""A protobuf message cannot be larger, so that neither can a single-file ONNX model."""

TAG = "pkg.torch.onnx.stack_trace"
"""Where ``torch.onnx`` keeps the stack trace of the graph node that an ONNX node came from."""


def export_fresh(module: nn.Module, example_inputs: tuple[Tensor, ...], path: Path) -> Artifact:
    """Export ``module`` (in evaluation mode) to a single ONNX file at ``path``; takes seconds.

    Dimension 0 of every input is dynamic where ``torch.export`` allows it. The file holds no stack traces, source
    paths or other metadata, and the same weights give the same bytes.

    Raises:
        StageError: kind ``export``: ``torch.onnx`` refuses the model, or it needs 2 GB or more.
    """
    return finish(translate(module, example_inputs), path)


def translate(module: nn.Module, example_inputs: tuple[Tensor, ...]) -> onnx_ir.Model:
    """The ONNX graph of ``module``: constants folded, weights untouched, each constant owned by one use.

    The weights are initialisers under the module's own names. Each node carries under `TAG` what the FX node had as
    ``stack_trace``. Raises StageError like `export_fresh`.
    """
    try:
        with quiet(), read_once(), torch.no_grad():
            program = torch.onnx.export(
                capture_program(module, example_inputs),
                (),
                dynamo=True,
                optimize=False,
                verbose=False,
                input_names=_input_names(module),
            )
        assert program is not None
        program.rename_axes(dict.fromkeys(_batches(program.model), "batch"))
        with quiet():
            _simplify(program.model)
    except Exception as error:
        lines = str(error).strip().splitlines() or [type(error).__name__]
        raise StageError(f"The model cannot be exported to ONNX: {lines[0]}", kind="export") from error
    return program.model


def finish(model: onnx_ir.Model, path: Path) -> Artifact:
    """Fold what depends on weights, strip metadata and stale shapes, write ``path`` atomically. Consumes ``model``.

    Raises:
        StageError: kind ``export``: the file would have 2 GB or more.
    """
    from onnx_ir.passes.common import CommonSubexpressionEliminationPass, RemoveUnusedNodesPass
    from onnxscript.optimizer import fold_constants
    from onnxscript.rewriter import RewriteRuleSet
    from onnxscript.rewriter.rules.common import (
        fuse_batchnorm_into_conv_rule,
        fuse_batchnorm_into_conv_transpose_rule,
        fuse_batchnorm_into_gemm_rule,
    )

    rules = [fuse_batchnorm_into_conv_rule, fuse_batchnorm_into_conv_transpose_rule, fuse_batchnorm_into_gemm_rule]
    with quiet():
        RewriteRuleSet(rules).apply_to_model(model)
        fold_constants(model, onnx_shape_inference=False, should_fold=lambda node: node.op_type == "Transpose" or None)
        remove_identities(model)
        RemoveUnusedNodesPass()(model)
        CommonSubexpressionEliminationPass()(model)
    try:
        data = _plain(model).SerializeToString(deterministic=True)
    except Exception as error:  # protobuf has no error class of its own for a message that is too large
        raise StageError(
            f"The model does not fit in one ONNX file of {MAX_BYTES} bytes: {error}", kind="export"
        ) from error
    write_whole(path, data)
    return Artifact(path=path, precision="fp32", sha256=hashlib.sha256(data).hexdigest(), size_bytes=len(data))


def capture_program(module: nn.Module, example_inputs: tuple[Tensor, ...]) -> torch.export.ExportedProgram:
    """Export with a dynamic batch; with a static one where the model refuses that."""
    # a batch of one would be specialised: 0 and 1 are constants to torch.export
    inputs = tuple(torch.cat([value, value]) if value.dim() and len(value) == 1 else value for value in example_inputs)
    shapes = tuple({0: torch.export.Dim.AUTO} if value.dim() else None for value in inputs)
    takes_any = [p.kind for p in inspect.signature(module.forward).parameters.values()] == [Parameter.VAR_POSITIONAL]
    try:
        return torch.export.export(module, inputs, dynamic_shapes=(shapes,) if takes_any else shapes)
    except Exception:
        return torch.export.export(module, example_inputs)  # what is wrong with the model itself is raised here


def _input_names(module: nn.Module) -> list[str] | None:
    """The user's names of the inputs, which a captured graph keeps; None lets the exporter take forward()'s."""
    graph = getattr(module, "graph", None)
    return [str(node.target) for node in graph.nodes if node.op == "placeholder"] if isinstance(graph, Graph) else None


def _batches(model: onnx_ir.Model) -> list[str]:
    """The exporter's names of the inputs' dynamic first dimensions."""
    first = [value.shape[0] for value in model.graph.inputs if value.shape is not None and len(value.shape)]
    return [str(size) for size in first if not isinstance(size, int)]


def _simplify(model: onnx_ir.Model) -> None:
    """Fold and rewrite with the weights as inputs, so that nothing that depends on their values is folded."""
    from onnx_ir.passes.common import LiftConstantsToInitializersPass, RemoveUnusedNodesPass
    from onnxscript.optimizer import fold_constants
    from onnxscript.rewriter import rewrite

    graph = model.graph
    weights = {value: value.const_value for value in graph.initializers.values()}
    for value in weights:
        assert value.name is not None
        value.const_value = None
        del graph.initializers[value.name]
        graph.inputs.append(value)
    for _ in range(2):  # as onnxscript.optimizer.optimize does, but without merging equal nodes of different layers
        fold_constants(model, onnx_shape_inference=True)
        rewrite(model)
    RemoveUnusedNodesPass()(model)
    LiftConstantsToInitializersPass(lift_all_constants=True, size_limit=0)(model)
    _unshare_constants(graph)
    for value, tensor in weights.items():
        graph.inputs.remove(value)
        value.const_value = tensor
        if value.uses() or value.is_graph_output():
            graph.register_initializer(value)


def _unshare_constants(graph: onnx_ir.Graph) -> None:
    """One initialiser per use, named after its node: a size shared by two layers may differ after a cut."""
    import onnx_ir

    shared = dict(graph.initializers)
    for node in graph:
        for position, value in enumerate(node.inputs):
            if value is not None and value.name in shared and not value.is_graph_input():
                own = onnx_ir.Value(name=f"{node.name}_{position}", type=value.type, const_value=value.const_value)
                own.shape = value.shape
                graph.register_initializer(own)
                node.replace_input_with(position, own)
    for name, value in shared.items():
        if not value.uses() and not value.is_graph_output():
            del graph.initializers[name]


def _plain(model: onnx_ir.Model) -> onnx.ModelProto:
    """Arithmetic only: no metadata, no shapes of intermediate values (a cut makes them stale; runtimes infer them)."""
    import onnx_ir
    from onnx_ir.passes.common import ClearMetadataAndDocStringPass

    ClearMetadataAndDocStringPass()(model)
    _name_nodes(model.graph)
    proto = onnx_ir.to_proto(model)
    del proto.graph.value_info[:]
    return proto


def _name_nodes(graph: onnx_ir.Graph) -> None:
    """Name each node after the module that owns its first weight, or its operator; its values after the node.

    Names are what a profile of the runtime shows. Weights keep the user's names.
    """
    taken: set[str] = set()
    for position, node in enumerate(graph):
        weights = (value.name or "" for value in node.inputs if value is not None and value.is_initializer())
        owner = next((name.rpartition(".")[0] for name in weights if name.endswith(".weight")), "")
        node.name = owner if owner and owner not in taken else f"{node.op_type}_{position}"
        taken.add(node.name)
        for index, value in enumerate(node.outputs):
            if not value.is_graph_output():
                value.name = f"{node.name}:{index}"


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """No warnings and no log lines of the exporter's own: a user can do nothing about them."""
    loggers = [logging.getLogger(name) for name in ("torch.onnx", "torch.export", "onnxscript", "onnx_ir")]
    levels = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)
