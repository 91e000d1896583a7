"""Boxes as regression targets: offsets to an anchor (Girshick 2015) or distances from a location (Tian et al. 2019).

Boxes are (..., 4) tensors x0 y0 x1 y1 in pixels, x1 and y1 exclusive.
"""

import math
from collections.abc import Sequence

import torch
from torch import Tensor
from torchvision.ops import box_convert, clip_boxes_to_image

MAX_LOG_SCALE = math.log(1000 / 16)  # of a box's side over its anchor's: keeps exp() finite


def centres_and_sizes(boxes: Tensor) -> tuple[Tensor, Tensor]:
    """Centres (..., 2) and sizes (..., 2), width first, of boxes (..., 4)."""
    centres, sizes = box_convert(boxes, "xyxy", "cxcywh").split(2, dim=-1)
    return centres, sizes


def encode_boxes(boxes: Tensor, anchors: Tensor, variances: tuple[float, float] = (1.0, 1.0)) -> Tensor:
    """Offsets (..., 4) of boxes to anchors of the same shape: dx dy in parts of the anchor's sides, log scale of sides.

    Offsets of the centre are divided by the first of the `variances`, those of the sides by the second.
    """
    centre, size = centres_and_sizes(boxes)
    anchor_centre, anchor_size = centres_and_sizes(anchors)
    shift = (centre - anchor_centre) / anchor_size / variances[0]
    log_scale = torch.log(size.clamp(min=1e-3) / anchor_size) / variances[1]
    return torch.cat([shift, log_scale], dim=-1)


def decode_boxes(offsets: Tensor, anchors: Tensor, variances: tuple[float, float] = (1.0, 1.0)) -> Tensor:
    """The inverse of `encode_boxes`: boxes (..., 4), finite for any finite offsets."""
    anchor_centre, anchor_size = centres_and_sizes(anchors)
    centre = anchor_centre + offsets[..., :2] * variances[0] * anchor_size
    half = anchor_size * torch.exp((offsets[..., 2:] * variances[1]).clamp(max=MAX_LOG_SCALE)) / 2
    return torch.cat([centre - half, centre + half], dim=-1)


def distances_to_boxes(distances: Tensor, locations: Tensor) -> Tensor:
    """Boxes (..., 4) from the distances (..., 4) of locations (..., 2) to their left, top, right and bottom side."""
    return torch.cat([locations - distances[..., :2], locations + distances[..., 2:]], dim=-1)


def boxes_to_distances(boxes: Tensor, locations: Tensor) -> Tensor:
    """The inverse of `distances_to_boxes`; negative where a location is outside its box."""
    return torch.cat([locations - boxes[..., :2], boxes[..., 2:4] - locations], dim=-1)


def clip_boxes(boxes: Tensor, images: Tensor) -> Tensor:
    """Boxes (..., 4) clipped to the size of images (N, C, H, W)."""
    return clip_boxes_to_image(boxes, (int(images.shape[2]), int(images.shape[3])))


def pairwise_iou(a: Tensor, b: Tensor) -> Tensor:
    """Intersection over union (..., K, M) of boxes (..., K, 4) and (..., M, 4).

    As torchvision.ops.box_iou, but 0 and not NaN for a pair of boxes without area.
    """
    low = torch.maximum(a[..., :, None, :2], b[..., None, :, :2])
    high = torch.minimum(a[..., :, None, 2:4], b[..., None, :, 2:4])
    intersection = (high - low).clamp(min=0).prod(dim=-1)
    area_a, area_b = ((x[..., 2:4] - x[..., :2]).prod(dim=-1) for x in (a, b))
    return intersection / (area_a[..., :, None] + area_b[..., None, :] - intersection).clamp(min=1e-9)


def aligned_iou(a: Tensor, b: Tensor) -> Tensor:
    """Intersection over union (P,) of each of the boxes (P, 4) with its counterpart among (P, 4)."""
    return pairwise_iou(a[:, None], b[:, None])[:, 0, 0]


def cell_centres(height: int, width: int, stride: int) -> Tensor:
    """Centres (height * width, 2), x and y in pixels, of the cells of a feature map, row by row."""
    y, x = torch.meshgrid(torch.arange(height), torch.arange(width), indexing="ij")
    return (torch.stack([x, y], dim=-1).reshape(-1, 2) + 0.5) * stride


def level_locations(maps: Sequence[Tensor], strides: Sequence[int]) -> tuple[Tensor, Tensor]:
    """Locations (K, 2) of all cells of the levels' maps (N, C, h, w), level by level, and their strides (K,)."""
    locations = [
        cell_centres(int(x.shape[2]), int(x.shape[3]), stride).to(x.device)
        for x, stride in zip(maps, strides, strict=True)
    ]
    return torch.cat(locations), torch.cat(
        [centres.new_full((len(centres),), stride) for centres, stride in zip(locations, strides, strict=True)]
    )
