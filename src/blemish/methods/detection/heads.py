"""Heads that predict classes and boxes at every cell of every level of a pyramid."""

import math

import torch
from torch import Tensor, nn

PRIOR = 0.01  # probability of each class that a fresh classifier predicts everywhere: nearly all cells are background
PRIOR_BIAS = -math.log((1 - PRIOR) / PRIOR)  # at which a sigmoid gives PRIOR


class HeadTower(nn.Module):
    """Convolutions shared by all levels, each followed by a BatchNorm of the level's own and a ReLU."""

    def __init__(self, width: int, depth: int, levels: int) -> None:
        super().__init__()
        self.convs = nn.ModuleList(nn.Conv2d(width, width, 3, padding=1, bias=False) for _ in range(depth))
        self.norms = nn.ModuleList(nn.ModuleList(nn.BatchNorm2d(width) for _ in range(levels)) for _ in range(depth))

    def forward(self, x: Tensor, level: int) -> Tensor:
        for convolution, norms in zip(self.convs, self.norms, strict=True):
            x = torch.relu([*norms.children()][level](convolution(x)))
        return x


class DenseHead(nn.Module):
    """Class logits (N, K, C) and box regression (N, K, B) for `per_cell` anchors in every cell of every level."""

    def __init__(self, width: int, depth: int, levels: int, per_cell: int, classes: int, outputs: int = 4) -> None:
        super().__init__()
        self.classes, self.outputs = classes, outputs
        self.class_tower, self.box_tower = HeadTower(width, depth, levels), HeadTower(width, depth, levels)
        self.classifier = nn.Conv2d(width, per_cell * classes, 3, padding=1)
        self.regressor = nn.Conv2d(width, per_cell * outputs, 3, padding=1)
        for last in (self.classifier, self.regressor):
            nn.init.normal_(last.weight, std=0.01)
            nn.init.zeros_(last.get_parameter("bias"))
        nn.init.constant_(self.classifier.get_parameter("bias"), PRIOR_BIAS)

    def forward(self, maps: list[Tensor]) -> tuple[Tensor, Tensor]:
        logits = [flatten_cells(self.classifier(self.class_tower(x, i)), self.classes) for i, x in enumerate(maps)]
        boxes = [flatten_cells(self.regressor(self.box_tower(x, i)), self.outputs) for i, x in enumerate(maps)]
        return torch.cat(logits, dim=1), torch.cat(boxes, dim=1)


def flatten_cells(x: Tensor, outputs: int) -> Tensor:
    """(N, A * outputs, h, w) to (N, h * w * A, outputs), in the order of `AnchorGenerator`."""
    return x.permute(0, 2, 3, 1).reshape(x.shape[0], -1, outputs)
