"""Small models, one coupling pattern each."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn


def conv_bn(i: int, o: int, stride: int = 1, groups: int = 1) -> nn.Sequential:
    return nn.Sequential(nn.Conv2d(i, o, 3, stride, 1, groups=groups, bias=False), nn.BatchNorm2d(o), nn.ReLU())


class Chain(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.features = nn.Sequential(conv_bn(3, 8), conv_bn(8, 12, 2))
        self.drop = nn.Dropout(0.5)
        self.fc = nn.Linear(12 * 16, 10)

    def forward(self, x: Tensor) -> Tensor:
        return self.fc(self.drop(self.features(x).flatten(1)))


class OptionA(nn.Module):
    """The CIFAR ResNet's shortcut: stride, then zero channels on both sides."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = conv_bn(3, 8)
        self.conv1 = conv_bn(8, 16, 2)
        self.conv2 = nn.Conv2d(16, 16, 3, padding=1)
        self.fc = nn.Linear(16, 10)

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        shortcut = F.pad(x[:, :, ::2, ::2], (0, 0, 0, 0, 4, 4))
        x = F.relu(self.conv2(self.conv1(x)) + shortcut)
        return self.fc(F.avg_pool2d(x, x.shape[3]).view(x.shape[0], -1))


class Concat(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.left, self.right = conv_bn(3, 6), conv_bn(3, 10)
        self.merge = conv_bn(16, 8)
        self.fc = nn.Linear(8, 10)

    def forward(self, x: Tensor) -> Tensor:
        x = self.merge(torch.cat([self.left(x), self.right(x)], dim=1))
        return self.fc(x.mean((2, 3)))


class Grouped(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Sequential(conv_bn(3, 12), conv_bn(12, 12, groups=12), conv_bn(12, 24, groups=4), conv_bn(24, 8))
        self.fc = nn.Linear(8, 10)

    def forward(self, x: Tensor) -> Tensor:
        return self.fc(self.body(x).mean((2, 3)))


class Shuffle(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.stem, self.group, self.last = conv_bn(3, 12), conv_bn(12, 12, groups=3), conv_bn(12, 8)
        self.fc = nn.Linear(8, 10)

    def forward(self, x: Tensor) -> Tensor:
        x = self.group(self.stem(x))
        n, c, h, w = x.shape
        x = x.view(n, 3, c // 3, h, w).transpose(1, 2).reshape(n, c, h, w)
        return self.fc(self.last(x).mean((2, 3)))


class Interleaved(nn.Module):
    """ShuffleNet v2's unit: one half passes, the other is convolved, then they are interleaved."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.conv, self.last = conv_bn(3, 12), conv_bn(6, 6), conv_bn(12, 8)
        self.fc = nn.Linear(8, 10)

    def forward(self, x: Tensor) -> Tensor:
        left, right = self.stem(x).chunk(2, dim=1)
        x = torch.cat([left, self.conv(right)], 1)
        x = x.unflatten(1, (2, 6)).transpose(1, 2).flatten(1, 2)
        return self.fc(self.last(x).mean((2, 3)))


class Transposed(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.down, self.up = conv_bn(3, 8, 2), nn.ConvTranspose2d(8, 12, 2, 2)
        self.norm, self.head = nn.GroupNorm(3, 12), nn.Conv2d(12, 3, 1)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(F.silu(self.norm(self.up(self.down(x)))))


class Attention(nn.Module):
    """Fused qkv, unbound; timm's way."""

    def __init__(self, fused: bool = True) -> None:
        super().__init__()
        self.fused = fused
        self.embed = nn.Conv2d(3, 24, 4, 4)
        self.position = nn.Parameter(torch.randn(1, 4, 24))
        self.norm, self.qkv, self.proj = nn.LayerNorm(24), nn.Linear(24, 72), nn.Linear(24, 24)
        self.mlp = nn.Sequential(nn.LayerNorm(24), nn.Linear(24, 40), nn.GELU(), nn.Linear(40, 24))
        self.fc = nn.Linear(24, 10)

    def forward(self, x: Tensor) -> Tensor:
        x = self.embed(x).flatten(2).transpose(1, 2) + self.position
        b, n, c = x.shape
        q, k, v = self.qkv(self.norm(x)).reshape(b, n, 3, 4, c // 4).permute(2, 0, 3, 1, 4).unbind(0)
        if self.fused:
            y = F.scaled_dot_product_attention(q, k, v)
        else:
            y = (q @ k.transpose(-2, -1) * (c // 4) ** -0.5).softmax(-1) @ v
        x = x + self.proj(y.transpose(1, 2).reshape(b, n, c))
        return self.fc((x + self.mlp(x)).mean(1))


class GroupedQuery(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.q, self.k, self.v = nn.Linear(12, 24, bias=False), nn.Linear(12, 8), nn.Linear(12, 8)
        self.out = nn.Linear(24, 12)

    def forward(self, x: Tensor) -> Tensor:
        b, n, _ = x.shape
        q = self.q(x).view(b, n, 6, 4).transpose(1, 2)
        k, v = (m(x).view(b, n, 2, 4).transpose(1, 2) for m in (self.k, self.v))
        k, v = (t[:, :, None].expand(b, 2, 3, n, 4).reshape(b, 6, n, 4) for t in (k, v))
        return self.out(F.scaled_dot_product_attention(q, k, v).transpose(1, 2).reshape(b, n, 24))


class Heads(nn.Module):
    """``nn.MultiheadAttention`` folds heads into the batch."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.TransformerEncoderLayer(16, 4, 32, batch_first=True)
        self.fc = nn.Linear(16, 10)

    def forward(self, x: Tensor) -> Tensor:
        return self.fc(self.layer(x))


class Recurrent(nn.Module):
    def __init__(self, kind: type[nn.Module]) -> None:
        super().__init__()
        self.before = nn.Linear(12, 6)
        self.rnn = kind(6, 10, 2, batch_first=True, bidirectional=True)
        self.fc = nn.Linear(20, 10)

    def forward(self, x: Tensor) -> Tensor:
        return self.fc(self.rnn(self.before(x))[0][:, -1])


class Gated(nn.Module):
    """Halves of one projection, multiplied; then an embedding-like table and einsum."""

    def __init__(self) -> None:
        super().__init__()
        self.both, self.mix, self.fc = nn.Linear(12, 40), nn.Linear(20, 16), nn.Linear(16, 10)
        self.table = nn.Parameter(torch.randn(16, 16))

    def forward(self, x: Tensor) -> Tensor:
        gate, value = self.both(x).chunk(2, dim=-1)
        x = torch.einsum("bnc,cd->bnd", self.mix(F.silu(gate) * value), self.table)
        return self.fc(x)


class Words(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.table, self.hidden, self.out = nn.Embedding(20, 12), nn.Linear(12, 16), nn.Linear(16, 12)

    def forward(self, words: Tensor) -> Tensor:
        return self.out(self.hidden(self.table(words)).relu()) @ self.table.weight.t()


class Normed(nn.Module):
    """Weight normalisation by output channel and by tap, the latter in a grouped convolution."""

    def __init__(self) -> None:
        super().__init__()
        norm = nn.utils.parametrizations.weight_norm
        self.first = norm(nn.Conv1d(5, 8, 3, padding=1))
        self.second = norm(nn.Conv1d(8, 8, 3, padding=1, groups=4), dim=2)
        self.fc = nn.Linear(8, 10)

    def forward(self, x: Tensor) -> Tensor:
        return self.fc(F.relu(self.second(F.relu(self.first(x)))).mean(2))


class Unit(nn.Module):
    """Vectors of length one: ``F.normalize`` expands the length with ``expand_as``."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.fc = nn.Linear(12, 16), nn.Linear(16, 10)

    def forward(self, x: Tensor) -> Tensor:
        return self.fc(F.normalize(self.first(x), dim=-1))


class Patches(nn.Module):
    """Windows unfolded, weighted and folded back."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.gain, self.fc = conv_bn(3, 6), nn.Parameter(torch.randn(6, 9, 1)), nn.Linear(6, 10)

    def forward(self, x: Tensor) -> Tensor:
        windows = F.unfold(self.conv(x), 3, padding=1).unflatten(1, (6, 9)) * self.gain
        return self.fc(F.fold(windows.flatten(1, 2), (8, 8), 3, padding=1).mean((2, 3)))


class Unknown(nn.Module):
    """``fft`` has no rule."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b, self.c = nn.Linear(12, 16), nn.Linear(16, 16), nn.Linear(16, 10)

    def forward(self, x: Tensor) -> Tensor:
        return self.c(self.b(torch.fft.fft(self.a(x)).abs()).relu())


IMAGE, TOKENS, WORDS = torch.randn(2, 3, 8, 8), torch.randn(2, 5, 12), torch.randint(0, 20, (2, 7))

CASES = {
    "chain": (Chain, IMAGE, {"features.0.0": 8, "features.1.0": 12}),
    "option_a": (OptionA, IMAGE, {"stem.0": 8, "conv1.0": 16, "conv2": 8}),
    "concat": (Concat, IMAGE, {"left.0": 6, "right.0": 10, "merge.0": 8}),
    "grouped": (Grouped, IMAGE, {"body.0.0": 4, "body.0.0#2": 3, "body.2.0": 6, "body.3.0": 8}),
    "shuffle": (Shuffle, IMAGE, {"stem.0": 3, "stem.0#2": 4, "group.0": 4, "last.0": 8}),
    "interleaved": (Interleaved, IMAGE, {"stem.0": 6, "stem.0#2": 6, "conv.0": 6, "last.0": 8}),
    "transposed": (Transposed, IMAGE, {"down.0": 8, "up": 3, "up#2": 4}),
    "attention": (Attention, IMAGE, {"embed": 24, "qkv": 4, "qkv#2": 6, "mlp.1": 40}),
    "attention_by_hand": (lambda: Attention(False), IMAGE, {"embed": 24, "qkv": 4, "qkv#2": 6, "mlp.1": 40}),
    "grouped_query": (GroupedQuery, TOKENS, {"q": 2, "q#2": 3, "q#3": 4, "v": 4}),
    "heads": (Heads, torch.randn(2, 5, 16), {"layer.self_attn": 4, "layer.self_attn#2": 4, "layer.linear1": 32}),
    "lstm": (lambda: Recurrent(nn.LSTM), TOKENS, {"before": 6, "rnn": 10}),
    "gru": (lambda: Recurrent(nn.GRU), TOKENS, {"before": 6, "rnn": 10}),
    "gated": (Gated, TOKENS, {"both": 20, "mix": 16, "table": 16}),
    "words": (Words, WORDS, {"table": 12, "hidden": 16}),
    "normed": (
        Normed,
        TOKENS,
        {f"{n}.parametrizations.weight{k}": s for n, k, s in (("first", "", 4), ("first", "#2", 2), ("second", "", 2))},
    ),
    "unit": (Unit, TOKENS, {"first": 16}),
    "patches": (Patches, IMAGE, {"conv.0": 6}),
    "unknown": (Unknown, TOKENS, {"b": 16}),
}
