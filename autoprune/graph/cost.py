"""Multiply-accumulates and parameters of a module."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode


def count_macs(module: nn.Module, example_inputs: tuple[Tensor, ...]) -> int:
    """Multiply-accumulates of one pass over ``example_inputs``: half of what PyTorch's FLOP counter counts.

    Attention is counted as the two products it is; the counter knows no fused kernel on a CPU.
    """
    modes = [(child, child.training) for child in module.modules()]
    module.eval()
    try:
        with torch.no_grad(), sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False) as counter:
            module(*example_inputs)
    finally:
        for child, training in modes:
            child.training = training
    return int(counter.get_total_flops()) // 2


def count_parameters(module: nn.Module) -> int:
    """Number of elements of all parameters, tied ones once."""
    return sum(parameter.numel() for parameter in module.parameters())
