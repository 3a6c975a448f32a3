"""nn.Module -> exported graph, its prune groups, the cut. Only the submodules need torch: start at ``model``."""

from autoprune.graph.groups import Blocked, Proof, PruneGroup, Slice

__all__ = ["Blocked", "Proof", "PruneGroup", "Slice"]
