"""Boxes as numbers that a network can learn: offsets to a reference box (Girshick 2015) or distances from a point."""

import math

import torch
from torch import Tensor

MOST_GROWTH = math.log(1000 / 16)  # of a side, over the reference's: keeps exp() finite


def centres_and_sizes(boxes: Tensor) -> tuple[Tensor, Tensor]:
    """Boxes (..., 4) as centres (..., 2) and sizes (..., 2)."""
    low, high = boxes[..., :2], boxes[..., 2:4]
    return (low + high) / 2, high - low


def encode(boxes: Tensor, references: Tensor, variances: tuple[float, float] = (1.0, 1.0)) -> Tensor:
    """Offsets (..., 4) of boxes to references of the same shape: dx dy in parts of its sides, log growth of the sides.

    Offsets of the centre are divided by the first of the `variances`, those of the sides by the second.
    """
    centre, size = centres_and_sizes(boxes)
    centre_r, size_r = centres_and_sizes(references)
    shift = (centre - centre_r) / size_r / variances[0]
    growth = torch.log(size.clamp(min=1e-3) / size_r) / variances[1]
    return torch.cat([shift, growth], dim=-1)


def decode(offsets: Tensor, references: Tensor, variances: tuple[float, float] = (1.0, 1.0)) -> Tensor:
    """The inverse of `encode`: boxes (..., 4)."""
    centre_r, size_r = centres_and_sizes(references)
    centre = centre_r + offsets[..., :2] * variances[0] * size_r
    half = size_r * torch.exp((offsets[..., 2:] * variances[1]).clamp(max=MOST_GROWTH)) / 2
    return torch.cat([centre - half, centre + half], dim=-1)


def from_distances(distances: Tensor, points: Tensor) -> Tensor:
    """Boxes (..., 4) from distances to their left, top, right and bottom side and the points (..., 2) they start at."""
    return torch.cat([points - distances[..., :2], points + distances[..., 2:]], dim=-1)


def to_distances(boxes: Tensor, points: Tensor) -> Tensor:
    """The inverse of `from_distances`; negative where a point is outside its box."""
    return torch.cat([points - boxes[..., :2], boxes[..., 2:4] - points], dim=-1)


def clip(boxes: Tensor, height: int, width: int) -> Tensor:
    """Boxes (..., 4) cut to an image of that size."""
    x, y = boxes[..., 0::2].clamp(0, width), boxes[..., 1::2].clamp(0, height)
    return torch.stack([x, y], dim=-1).flatten(-2)


def pairwise_iou(a: Tensor, b: Tensor) -> Tensor:
    """Intersection over union (..., K, M) of boxes (..., K, 4) and (..., M, 4); 0 for boxes without area.

    As torchvision.ops.box_iou, and of many images at once.
    """
    low = torch.maximum(a[..., :, None, :2], b[..., None, :, :2])
    high = torch.minimum(a[..., :, None, 2:4], b[..., None, :, 2:4])
    shared = (high - low).clamp(min=0).prod(dim=-1)
    area_a, area_b = ((x[..., 2:4] - x[..., :2]).prod(dim=-1) for x in (a, b))
    return shared / (area_a[..., :, None] + area_b[..., None, :] - shared).clamp(min=1e-9)


def points_of(height: int, width: int, stride: int) -> Tensor:
    """Centres (height * width, 2), x and y in pixels, of the cells of a feature map, row by row."""
    y, x = torch.meshgrid(torch.arange(height), torch.arange(width), indexing="ij")
    return (torch.stack([x, y], dim=-1).reshape(-1, 2) + 0.5) * stride
