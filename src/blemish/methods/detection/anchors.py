"""Anchors of a pyramid of feature maps: stated by scale and ratio, or fitted to the training boxes."""

from typing import Annotated

import numpy as np
import torch
from pydantic import Field
from torch import Tensor, nn

from blemish.arrays import Sizes
from blemish.methods.detection.boxes import cell_centres

Positive = Annotated[float, Field(gt=0, allow_inf_nan=False)]
AnchorSizes = Annotated[tuple[Positive, ...], Field(min_length=1)]  # an option: sides of anchors, or their ratios


class AnchorGenerator(nn.Module):
    """A anchors around the centre of every cell of every level.

    `shapes` (L, A, 2), width and height in pixels, is a buffer: what was fitted is saved with the weights.
    """

    shapes: Tensor

    def __init__(self, shapes: Tensor, strides: list[int]) -> None:
        super().__init__()
        self.strides = strides
        self.register_buffer("shapes", shapes.float())
        self.log_sizes = shapes.log().mean(dim=(1, 2)).numpy()  # logarithm of each level's mean side, as stated

    @property
    def per_cell(self) -> int:
        return int(self.shapes.shape[1])

    def forward(self, maps: list[Tensor]) -> Tensor:
        """Anchors (K, 4) for feature maps (N, C, h, w): level by level, row by row, shape by shape."""
        anchors = []
        for shapes, stride, level in zip(self.shapes, self.strides, maps, strict=True):
            centres = cell_centres(int(level.shape[2]), int(level.shape[3]), stride).to(shapes.device)[:, None]
            half = shapes[None] / 2
            anchors.append(torch.cat([centres - half, centres + half], dim=-1).reshape(-1, 4))
        return torch.cat(anchors)

    def fit(self, sizes: Sizes) -> None:
        """Fit the shapes to box sizes (M, 2): k-means, level by level, of the boxes nearest to the level's own size.

        The level's own size is the mean side of its stated shapes, so that a box is detected on a map whose stride
        suits it. A level that no box is near to keeps its stated shapes.
        """
        nearest = np.abs(np.log(sizes).mean(axis=1)[:, None] - self.log_sizes).argmin(axis=1)
        for level in np.unique(nearest):
            self.shapes[level] = torch.from_numpy(cluster_sizes(sizes[nearest == level], self.per_cell))


def anchor_shapes(strides: list[int], scales: tuple[float, ...], ratios: tuple[float, ...]) -> Tensor:
    """Widths and heights (L, A, 2): squares of scale times stride, stretched to each ratio (height to width)."""
    scale = torch.tensor(scales)[:, None]
    ratio = torch.tensor(ratios)[None, :].sqrt()
    shapes = torch.stack([scale / ratio, scale * ratio], dim=-1).reshape(-1, 2)
    return torch.tensor(strides)[:, None, None] * shapes


def cluster_sizes(sizes: Sizes, count: int, max_iterations: int = 100) -> Sizes:
    """k-means of box sizes (M, 2) with the distance 1 - IoU (Redmon and Farhadi 2017): (count, 2), by rising area.

    A centre is the median width and height of its boxes, which outliers move less than their mean.
    """
    by_area = sizes[np.argsort(sizes.prod(axis=1), kind="stable")]
    centres = by_area[np.linspace(0, len(by_area) - 1, count).round().astype(int)]
    for _ in range(max_iterations):
        nearest = size_iou(by_area, centres).argmax(axis=1)
        moved = np.stack(
            [np.median(by_area[nearest == k], axis=0) if (nearest == k).any() else centres[k] for k in range(count)]
        )
        if np.allclose(moved, centres):
            break
        centres = moved
    return np.asarray(centres[np.argsort(centres.prod(axis=1), kind="stable")])


def size_iou(a: Sizes, b: Sizes) -> Sizes:
    """Intersection over union (M, K) of concentric boxes of the sizes (M, 2) and (K, 2)."""
    intersection = np.minimum(a[:, None], b[None]).prod(axis=2)
    return np.asarray(intersection / (a.prod(axis=1)[:, None] + b.prod(axis=1)[None] - intersection))
