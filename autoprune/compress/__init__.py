"""Recipe -> smaller model. The order is fixed: rank, cut, recover; then, on the exported artifact, quantise."""

from autoprune.compress.criteria import Criterion, criteria, criterion
from autoprune.compress.half import halve_onnx
from autoprune.compress.pipeline import Saliencies, compress, select
from autoprune.compress.quantize import quantize_onnx
from autoprune.compress.recover import Recovery, Reference, recoveries, recovery
from autoprune.compress.silence import cut

__all__ = [
    "Criterion",
    "Recovery",
    "Reference",
    "Saliencies",
    "compress",
    "criteria",
    "criterion",
    "cut",
    "halve_onnx",
    "quantize_onnx",
    "recoveries",
    "recovery",
    "select",
]
