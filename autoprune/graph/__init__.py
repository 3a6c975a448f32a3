"""nn.Module -> exported graph, its prune groups, the cut. Torch is needed only by the submodules, `autoprune.graph.model` first."""

from autoprune.graph.groups import Blocked, Proof, PruneGroup, Slice

__all__ = ["Blocked", "Proof", "PruneGroup", "Slice"]
