"""Batches of images that stay uint8 in memory."""

from collections.abc import Iterator

import torch
from torch import Tensor


class ImageBatches:
    """Batches of normalised images, made as they are asked for.

    With ``shift`` or ``flip`` (or both), every pass goes over the images in a new order, each moved by up to ``shift``
    pixels (He et al. 2015, section 4.2) and mirrored with probability one half. Randomness comes from torch's global
    generator, so that whoever seeds it gets the same batches again.

    Args:
        images: uint8 (N, C, H, W).
        labels: int64 (N,).
        batch: images per batch; a pass that augments leaves out an incomplete last batch, for BatchNorm's sake.
        mean, std: per channel, in the units of ``images``.
    """

    def __init__(
        self,
        images: Tensor,
        labels: Tensor,
        *,
        batch: int,
        mean: tuple[float, ...],
        std: tuple[float, ...],
        shift: int = 0,
        flip: bool = False,
    ) -> None:
        self.images, self.labels, self.batch = images, labels, batch
        self.shift, self.flip = shift, flip
        self.mean = torch.tensor(mean).view(-1, 1, 1)
        self.std = torch.tensor(std).view(-1, 1, 1)

    @property
    def augments(self) -> bool:
        """Whether passes differ."""
        return self.flip or self.shift > 0

    def __len__(self) -> int:
        return len(self.labels) // self.batch if self.augments else -(-len(self.labels) // self.batch)

    def __iter__(self) -> Iterator[tuple[Tensor, Tensor]]:
        order = torch.randperm(len(self.labels)) if self.augments else torch.arange(len(self.labels))
        for index in torch.split(order, self.batch)[: len(self)]:
            images = self.images[index]
            yield self._normalised(self._moved(images) if self.augments else images), self.labels[index]

    def _normalised(self, images: Tensor) -> Tensor:
        return (images.float() - self.mean) / self.std

    def _moved(self, images: Tensor) -> Tensor:
        count, channels, height, width = images.shape
        rows = torch.arange(height) + torch.randint(2 * self.shift + 1, (count, 1))
        columns = torch.arange(width).expand(count, width)
        if self.flip:
            columns = torch.where(torch.rand(count, 1) < 0.5, columns.flip(1), columns)
        columns = columns + torch.randint(2 * self.shift + 1, (count, 1))
        padded = torch.nn.functional.pad(images, [self.shift] * 4)
        which = torch.arange(count).view(-1, 1, 1, 1), torch.arange(channels).view(1, -1, 1, 1)
        return padded[(*which, rows[:, None, :, None], columns[:, None, None, :])]
