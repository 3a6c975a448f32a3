"""What a cut does to the output of the whole model: error tables, measured without labels."""

from autoprune.damage.divergence import Divergence
from autoprune.damage.measure import measure_damage
from autoprune.damage.table import DamageTable

__all__ = ["DamageTable", "Divergence", "measure_damage"]
