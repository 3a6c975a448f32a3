"""What the layers of the dense model answer: the same for all candidates, so that one pass serves them."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from torch import Tensor, fx, nn

    from autoprune.compress.interpret import Interpreter
    from autoprune.compress.layers import Layer
    from autoprune.compress.passes import Passes

MOST_BYTES = 2**29


@dataclass(frozen=True)
class Answer:
    """Of one layer.

    Attributes:
        shape: of all outputs.
        outputs: at some positions, those of `Layer.positions`: (positions, units).
        stream: what is added to these, see `Layer.stream`; None where nothing is.
    """

    shape: tuple[int, ...]
    outputs: Tensor
    stream: Tensor | None


@dataclass(frozen=True)
class Answers:
    """Of all layers.

    Attributes:
        layers: by node.
        means: by node, also of those that are no `Layer`: of the outputs over all positions, (units,).
    """

    layers: dict[str, Answer] = field(default_factory=dict)
    means: dict[str, Tensor] = field(default_factory=dict)

    @property
    def size_bytes(self) -> int:
        """What they take in memory."""
        tensors = [tensor for one in self.layers.values() for tensor in (one.outputs, one.stream) if tensor is not None]
        return sum(tensor.numel() * tensor.element_size() for tensor in tensors)

    def note(self, run: Interpreter, node: fx.Node, layer: Layer | None, rows: int, *args: Any) -> Tensor:
        """Answer like the node, and note what."""
        y: Tensor = node.target(*args)  # type: ignore[operator]
        channel = y.dim() - args[1].dim() + 1  # behind it a convolution has one dimension for each of its kernel's
        self.means[node.name] = y.movedim(channel, -1).flatten(0, -2).mean(0)
        if layer is not None:
            places, beside = layer.positions(y.shape, rows), layer.stream(run.env, y.shape)
            stream = None if beside is None else layer.outputs(beside, places)
            self.layers[node.name] = Answer(tuple(y.shape), layer.outputs(y, places), stream)
        return y


def answers(passes: Passes, *, rows: int) -> Answers:
    """At ``rows`` positions of each layer at most. Kept for the next candidate, unless over ``MOST_BYTES``."""
    if (key := ("answers", rows)) in passes.seen:
        found: Answers = passes.seen[key]
        return found
    found = _observed(passes.dense, passes.inputs, rows)
    if found.size_bytes <= MOST_BYTES:
        passes.seen[key] = found
    return found


def _observed(dense: nn.Module, inputs: tuple[Tensor, ...], rows: int) -> Answers:
    import torch

    from autoprune.compress.interpret import Interpreter, calls
    from autoprune.compress.layers import ATEN, CONVOLUTIONS, layers_of

    found, run = Answers(), Interpreter(dense.eval())
    layers = {layer.node: layer for layer in layers_of(dense)}
    for node in calls(dense, *CONVOLUTIONS, ATEN.linear):
        run.instead[node.name] = partial(found.note, run, node, layers.get(node.name), rows)
    with torch.no_grad():
        run.run(*inputs)
    return found
