"""Random networks, random cuts: what is cut computes what the zeroed dense model computes."""

import torch
import torch.nn.functional as F
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from autoprune.graph.cost import count_parameters
from autoprune.graph.model import PrunableGraph

BLOCKS = ("plain", "residual", "concat", "option_a", "depthwise", "grouped", "squeeze", "shuffle", "chunk", "part")


class Block(nn.Module):
    def __init__(self, kind: str, width: int) -> None:
        super().__init__()
        self.kind = kind
        groups = {"depthwise": width, "grouped": 2}.get(kind, 1)
        out = 2 * width if kind in ("option_a", "chunk") else width
        self.conv, self.norm = nn.Conv2d(width, out, 3, padding=1, groups=groups, bias=False), nn.BatchNorm2d(out)
        self.squeeze, self.excite = nn.Conv2d(out, 4, 1), nn.Conv2d(4, out, 1)
        self.width = 2 * width if kind in ("option_a", "concat") else width

    def forward(self, x: Tensor) -> Tensor:
        y = F.relu(self.norm(self.conv(x)))
        n, c, h, w = y.shape
        match self.kind:
            case "residual":
                return x + y
            case "concat":
                return torch.cat([x, y], 1)
            case "option_a":
                return y + F.pad(x, (0, 0, 0, 0, c // 4, c // 4))
            case "squeeze":
                return y * torch.sigmoid(self.excite(F.relu(self.squeeze(y.mean((2, 3), keepdim=True)))))
            case "shuffle":
                return y.view(n, 2, c // 2, h, w).transpose(1, 2).reshape(n, c, h, w)
            case "chunk":
                a, b = y.chunk(2, dim=1)
                return a * torch.sigmoid(b) + x
            case "part":
                return x * y[:, 1:3].sum(1, keepdim=True)
        return y


class Net(nn.Module):
    def __init__(self, kinds: list[str]) -> None:
        super().__init__()
        self.stem, width, blocks = nn.Conv2d(3, 8, 3, padding=1), 8, []
        for kind in kinds:
            blocks.append(Block(kind, width))
            width = blocks[-1].width
        self.blocks, self.fc = nn.Sequential(*blocks), nn.Linear(width * 4, 5)

    def forward(self, x: Tensor) -> Tensor:
        return self.fc(F.adaptive_avg_pool2d(self.blocks(self.stem(x)), 2).flatten(1))


@settings(
    max_examples=8,
    deadline=None,
    derandomize=True,
    phases=[Phase.explicit, Phase.generate],  # shrinking exports hundreds of networks
    suppress_health_check=[HealthCheck.too_slow],
)
@given(st.lists(st.sampled_from(BLOCKS), min_size=1, max_size=4), st.data())
def test_any_cut_equals_zeroing(kinds, data):
    torch.manual_seed(len(kinds))
    module = Net(kinds).eval()
    with torch.no_grad():
        for value in (*module.parameters(), *(b for b in module.buffers() if b.is_floating_point())):
            value.add_(0.1 * torch.rand(value.shape))
    graph = PrunableGraph.capture(module, (torch.randn(2, 3, 6, 6),), prove=False)
    assert graph.groups
    assert graph.blocked == ()
    for _ in range(3):
        keep = {
            group.id: data.draw(st.lists(st.sampled_from(range(group.size)), min_size=1, unique=True).map(sorted))
            for group in graph.groups
        }
        cut, x = graph.cut(keep).eval(), torch.randn(3, 3, 6, 6)
        torch.testing.assert_close(cut(x), graph.zeroed(keep).eval()(x), atol=1e-4, rtol=1e-4)
        assert count_parameters(cut) == graph.parameters(keep)
        dropped = any(len(keep[group.id]) < group.size for group in graph.groups)
        assert (count_parameters(cut) < graph.parameters()) == dropped
