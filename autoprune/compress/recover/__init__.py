"""Recovery of what the cut has cost. One file per method."""

from autoprune.compress.recover._base import Recovery, Reference, recoveries, recovery

__all__ = ["Recovery", "Reference", "recoveries", "recovery"]
