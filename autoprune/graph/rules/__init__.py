"""The rules, one file per operator family; importing this registers all of them."""

from autoprune.graph.rules._base import REWRITES, RULES, lookup, rewrite, rule

from autoprune.graph.rules import (  # isort: skip
    attention,
    conv,
    create,
    elementwise,
    index,
    matmul,
    norm,
    parts,
    reduce,
    reshape,
    rnn,
    shape,
)

__all__ = [
    "REWRITES",
    "RULES",
    "attention",
    "conv",
    "create",
    "elementwise",
    "index",
    "lookup",
    "matmul",
    "norm",
    "parts",
    "reduce",
    "reshape",
    "rewrite",
    "rnn",
    "rule",
    "shape",
]
