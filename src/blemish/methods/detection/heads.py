"""Heads that slide over every level of a pyramid with shared convolutions."""

import math

import torch
from torch import Tensor, nn

PRIOR = 0.01  # what a fresh classifier says of every place: nearly all of them are background


class Tower(nn.Module):
    """A few convolutions, the same for all levels, each followed by a BatchNorm of the level's own and a ReLU."""

    def __init__(self, width: int, depth: int, levels: int) -> None:
        super().__init__()
        self.convs = nn.ModuleList(nn.Conv2d(width, width, 3, padding=1, bias=False) for _ in range(depth))
        self.norms = nn.ModuleList(nn.ModuleList(nn.BatchNorm2d(width) for _ in range(levels)) for _ in range(depth))

    def forward(self, x: Tensor, level: int) -> Tensor:
        for convolution, norms in zip(self.convs, self.norms, strict=True):
            x = torch.relu(norms[level](convolution(x)))
        return x


class DenseHead(nn.Module):
    """Class logits (N, K, C) and box numbers (N, K, B) for `per_cell` references in every cell of every level."""

    def __init__(self, width: int, depth: int, levels: int, per_cell: int, kinds: int, numbers: int = 4) -> None:
        super().__init__()
        self.kinds, self.numbers = kinds, numbers
        self.class_tower, self.box_tower = Tower(width, depth, levels), Tower(width, depth, levels)
        self.classify = nn.Conv2d(width, per_cell * kinds, 3, padding=1)
        self.locate = nn.Conv2d(width, per_cell * numbers, 3, padding=1)
        for last in (self.classify, self.locate):
            nn.init.normal_(last.weight, std=0.01)
            nn.init.zeros_(last.bias)
        nn.init.constant_(self.classify.bias, prior_bias())

    def forward(self, maps: list[Tensor]) -> tuple[Tensor, Tensor]:
        logits, boxes = [], []
        for level, x in enumerate(maps):
            logits.append(by_reference(self.classify(self.class_tower(x, level)), self.kinds))
            boxes.append(by_reference(self.locate(self.box_tower(x, level)), self.numbers))
        return torch.cat(logits, dim=1), torch.cat(boxes, dim=1)


def prior_bias() -> float:
    """The bias at which a sigmoid gives PRIOR."""
    return -math.log((1 - PRIOR) / PRIOR)


def by_reference(x: Tensor, numbers: int) -> Tensor:
    """(N, A * numbers, h, w) to (N, h * w * A, numbers), in the order of `Anchors`."""
    return x.permute(0, 2, 3, 1).reshape(x.shape[0], -1, numbers)
