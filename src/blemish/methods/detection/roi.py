"""Features of regions: each box's share of a feature map as a small grid of fixed size."""

from typing import Literal

import torch
from torch import Tensor, nn
from torchvision.ops import roi_align, roi_pool

Pooling = Literal["align", "pool"]
CANONICAL = 14.0  # cells of its level that a region is wide and high, at least (Lin et al. 2017, equation 1)
SAMPLES = 2  # points along each side of a bin that RoIAlign averages


class RegionPool(nn.Module):
    """RoIAlign (He et al. 2017) or RoIPool (Girshick 2015), each region from the level of the pyramid that suits it."""

    def __init__(self, kind: Pooling, side: int, strides: list[int]) -> None:
        super().__init__()
        self.kind, self.side, self.strides = kind, side, strides

    def forward(self, maps: list[Tensor], boxes: Tensor) -> Tensor:
        """Boxes (N, R, 4) of N images to features (N * R, C, side, side)."""
        return self.pool(maps, with_image_index(boxes))

    def pool(self, maps: list[Tensor], boxes: Tensor) -> Tensor:
        """Boxes (P, 5), the image's index first, to features (P, C, side, side)."""
        if len(self.strides) == 1:
            return self._pool(maps[0], boxes, self.strides[0])
        level = self.assign_levels(boxes[:, 1:])
        indices = [(level == i).nonzero().squeeze(1) for i in range(len(self.strides))]
        pooled = [self._pool(maps[i], boxes[index], self.strides[i]) for i, index in enumerate(indices)]
        return torch.cat(pooled)[torch.cat(indices).argsort()]

    def assign_levels(self, boxes: Tensor) -> Tensor:
        """Index of the level of each box (R, 4): the coarsest on which it still spans CANONICAL cells."""
        side = (boxes[:, 2:] - boxes[:, :2]).clamp(min=0).prod(dim=1).sqrt()
        level = torch.floor(torch.log2(side / (CANONICAL * self.strides[0]) + 1e-6))
        return level.clamp(0, len(self.strides) - 1).long()

    def _pool(self, x: Tensor, boxes: Tensor, stride: int) -> Tensor:
        size = (self.side, self.side)
        if self.kind == "align":
            return roi_align(x, boxes, size, 1 / stride, SAMPLES, aligned=True)
        return roi_pool(x, boxes, size, 1 / stride)


def with_image_index(boxes: Tensor) -> Tensor:
    """Boxes (N, R, 4) as (N * R, 5) with the image's index first, as torchvision expects them."""
    images, regions = boxes.shape[:2]
    index = torch.arange(images, device=boxes.device, dtype=boxes.dtype)[:, None, None].expand(-1, regions, 1)
    return torch.cat([index, boxes], dim=2).flatten(0, 1)
