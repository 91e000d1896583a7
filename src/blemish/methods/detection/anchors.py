"""Reference boxes of a pyramid of feature maps: stated by scale and ratio, or fitted to the training boxes."""

from typing import Annotated

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import Field
from torch import Tensor, nn

from blemish.methods.detection.boxes import points_of

Floats = NDArray[np.float64]
Positive = Annotated[float, Field(gt=0, allow_inf_nan=False)]
Sizes = Annotated[tuple[Positive, ...], Field(min_length=1)]  # of anchors, or their ratios, as an option


class Anchors(nn.Module):
    """For every cell of every level, A boxes around its centre.

    `shapes` (L, A, 2), width and height in pixels, is a buffer: what was fitted is saved with the weights.
    """

    shapes: Tensor

    def __init__(self, shapes: Tensor, strides: list[int]) -> None:
        super().__init__()
        self.strides = strides
        self.register_buffer("shapes", shapes.float())
        self.sizes = shapes.log().mean(dim=(1, 2)).numpy()  # logarithm of the mean side of each level, as stated

    @property
    def per_cell(self) -> int:
        return int(self.shapes.shape[1])

    def forward(self, maps: list[Tensor]) -> Tensor:
        """Boxes (K, 4) for feature maps (N, C, h, w): level by level, row by row, shape by shape."""
        found = []
        for shapes, stride, level in zip(self.shapes, self.strides, maps, strict=True):
            centres = points_of(int(level.shape[2]), int(level.shape[3]), stride).to(shapes.device)
            half = shapes[None] / 2
            found.append(torch.cat([centres[:, None] - half, centres[:, None] + half], dim=-1).reshape(-1, 4))
        return torch.cat(found)

    def fit(self, sizes: Floats) -> None:
        """Take shapes from the sizes (M, 2) of boxes: k-means in each level of those that are nearest to its own size.

        That is the mean side of its stated shapes, so that a box is looked for on a map whose stride suits it. A level
        that no box is near to keeps the stated shapes.
        """
        nearest = np.abs(np.log(sizes).mean(axis=1)[:, None] - self.sizes).argmin(axis=1)
        for level in np.unique(nearest):
            self.shapes[level] = torch.from_numpy(cluster_sizes(sizes[nearest == level], self.per_cell))


def stated_shapes(strides: list[int], scales: tuple[float, ...], ratios: tuple[float, ...]) -> Tensor:
    """(L, A, 2) widths and heights: squares of scale times stride, stretched to each ratio (height to width)."""
    scale = torch.tensor(scales)[:, None]
    ratio = torch.tensor(ratios)[None, :].sqrt()
    shapes = torch.stack([scale / ratio, scale * ratio], dim=-1).reshape(-1, 2)
    return torch.tensor(strides)[:, None, None] * shapes


def cluster_sizes(sizes: Floats, count: int, rounds: int = 100) -> Floats:
    """k-means of box sizes (M, 2) with the distance 1 - IoU (Redmon and Farhadi 2017): (count, 2), by rising area.

    A centre is the median width and height of its boxes, which a few odd ones move less than their mean.
    """
    by_area = sizes[np.argsort(sizes.prod(axis=1), kind="stable")]
    centres = by_area[np.linspace(0, len(by_area) - 1, count).round().astype(int)]
    for _ in range(rounds):
        nearest = size_iou(by_area, centres).argmax(axis=1)
        moved = np.stack(
            [np.median(by_area[nearest == k], axis=0) if (nearest == k).any() else centres[k] for k in range(count)]
        )
        if np.allclose(moved, centres):
            break
        centres = moved
    return np.asarray(centres[np.argsort(centres.prod(axis=1), kind="stable")])


def size_iou(a: Floats, b: Floats) -> Floats:
    """Intersection over union (M, K) of boxes of sizes (M, 2) and (K, 2) with the same centre."""
    shared = np.minimum(a[:, None], b[None]).prod(axis=2)
    return np.asarray(shared / (a.prod(axis=1)[:, None] + b.prod(axis=1)[None] - shared))
