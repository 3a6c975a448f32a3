"""The rules, one file per operator family; importing this registers all of them."""

from autoprune.graph.rules._base import (
    REWRITES,
    RULES,
    Axes,
    argument,
    has_argument,
    lookup,
    numbers,
    operator_name,
    rewrite,
    rule,
    set_argument,
    sizes,
    tensor_of,
)

from autoprune.graph.rules import (  # isort: skip
    attention,
    conv,
    create,
    elementwise,
    index,
    matmul,
    norm,
    reduce,
    rnn,
    shape,
)

__all__ = [
    "REWRITES", "RULES", "Axes", "argument", "attention", "conv", "create", "elementwise", "has_argument", "index",
    "lookup", "matmul", "norm", "numbers", "operator_name", "reduce", "rewrite", "rnn", "rule", "set_argument", "shape",
    "sizes", "tensor_of",
]  # fmt: skip
