"""Small networks of torch.nn parts that people really write, for the zoo."""

import torch
from torch import Tensor, nn
from torch.nn import functional


class LastStep(nn.Module):
    """A recurrent network and a classifier on its last step: (N, T, inputs) -> (N, 10)."""

    def __init__(self, cell: type[nn.RNNBase], *, inputs: int = 32, hidden: int = 64, both: bool = False) -> None:
        super().__init__()
        self.rnn = cell(inputs, hidden, num_layers=2, batch_first=True, bidirectional=both)
        self.head = nn.Linear(hidden * (2 if both else 1), 10)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.rnn(x)[0][:, -1])


class Tagger(nn.Module):
    """Embedding, LSTM with a projection layer, one label for each token: (N, T) -> (N, T, 10)."""

    def __init__(self) -> None:
        super().__init__()
        self.embedding = nn.Embedding(100, 32)
        self.rnn = nn.LSTM(32, 64, batch_first=True)
        self.hidden = nn.Linear(64, 48)
        self.head = nn.Linear(48, 10)

    def forward(self, tokens: Tensor) -> Tensor:
        return self.head(functional.relu(self.hidden(self.rnn(self.embedding(tokens))[0])))


class Encoder(nn.Module):
    """A projection, nn.TransformerEncoder and a classifier on the mean: (N, T, 64) -> (N, 10)."""

    def __init__(self) -> None:
        super().__init__()
        self.embed = nn.Linear(64, 64)
        layer = nn.TransformerEncoderLayer(64, 4, 128, batch_first=True)
        self.encoder = nn.TransformerEncoder(layer, 2, enable_nested_tensor=False)
        self.head = nn.Linear(64, 10)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.encoder(self.embed(x)).mean(1))


class Decoder(nn.Module):
    """nn.TransformerDecoder that attends to a memory: (N, T, 64), (N, S, 64) -> (N, T, 10)."""

    def __init__(self) -> None:
        super().__init__()
        self.decoder = nn.TransformerDecoder(nn.TransformerDecoderLayer(64, 4, 128, batch_first=True), 2)
        self.head = nn.Linear(64, 10)

    def forward(self, x: Tensor, memory: Tensor) -> Tensor:
        return self.head(self.decoder(x, memory))


class EinsumAttention(nn.Module):
    """Attention written with einsum and one fused projection: (N, T, 64) -> (N, 10)."""

    def __init__(self) -> None:
        super().__init__()
        self.qkv = nn.Linear(64, 192)
        self.out = nn.Linear(64, 64)
        self.head = nn.Linear(64, 10)

    def forward(self, x: Tensor) -> Tensor:
        n, t, _ = x.shape
        q, k, v = self.qkv(x).view(n, t, 3, 4, 16).unbind(2)
        weights = torch.einsum("bqhd,bkhd->bhqk", q, k).div(4.0).softmax(-1)
        mixed = torch.einsum("bhqk,bkhd->bqhd", weights, v).reshape(n, t, 64)
        return self.head((x + self.out(mixed)).mean(1))


class Shuffle(nn.Module):
    """Grouped convolutions with a channel shuffle between them: (N, 3, H, W) -> (N, 10)."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 32, 3, padding=1)
        self.first = nn.Conv2d(32, 64, 1, groups=4)
        self.second = nn.Conv2d(64, 64, 3, padding=1, groups=4)
        self.head = nn.Linear(64, 10)

    def forward(self, x: Tensor) -> Tensor:
        x = functional.relu(self.first(functional.relu(self.stem(x))))
        n, c, h, w = x.shape
        x = x.view(n, 4, c // 4, h, w).transpose(1, 2).reshape(n, c, h, w)
        return self.head(functional.relu(self.second(x)).mean((2, 3)))


class UNet(nn.Module):
    """Two levels down and up with concatenated skips: (N, 3, H, W) -> (N, 4, H, W)."""

    def __init__(self) -> None:
        super().__init__()
        self.enter, self.down, self.bottom = _double(3, 16), _double(16, 32), _double(32, 64)
        self.up2, self.join2 = nn.ConvTranspose2d(64, 32, 2, stride=2), _double(64, 32)
        self.up1, self.join1 = nn.ConvTranspose2d(32, 16, 2, stride=2), _double(32, 16)
        self.head = nn.Conv2d(16, 4, 1)

    def forward(self, x: Tensor) -> Tensor:
        first = self.enter(x)
        second = self.down(functional.max_pool2d(first, 2))
        x = self.bottom(functional.max_pool2d(second, 2))
        x = self.join2(torch.cat([self.up2(x), second], 1))
        return self.head(self.join1(torch.cat([self.up1(x), first], 1)))


def conv3d() -> nn.Module:
    return nn.Sequential(
        nn.Conv3d(3, 16, 3, padding=1), nn.BatchNorm3d(16), nn.ReLU(), nn.MaxPool3d(2),
        nn.Conv3d(16, 32, 3), nn.GroupNorm(4, 32), nn.ReLU(), nn.AdaptiveAvgPool3d(1), nn.Flatten(), nn.Linear(32, 10),
    )  # fmt: skip


def autoencoder() -> nn.Module:
    return nn.Sequential(
        nn.Conv2d(3, 16, 4, 2, 1), nn.LeakyReLU(0.1), nn.Conv2d(16, 32, 4, 2, 1), nn.InstanceNorm2d(32, affine=True),
        nn.ConvTranspose2d(32, 16, 4, 2, 1), nn.SiLU(), nn.ConvTranspose2d(16, 3, 4, 2, 1),
    )  # fmt: skip


def _double(inputs: int, outputs: int) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(inputs, outputs, 3, padding=1), nn.BatchNorm2d(outputs), nn.ReLU(inplace=True),
        nn.Conv2d(outputs, outputs, 3, padding=1), nn.BatchNorm2d(outputs), nn.ReLU(inplace=True),
    )  # fmt: skip
