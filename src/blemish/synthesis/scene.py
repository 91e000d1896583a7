"""The state of a synthetic image while its steps are carried out: pixels, part, and the defects made so far."""

from dataclasses import dataclass, field
from typing import Any

import cv2
import numpy as np

from blemish.arrays import FloatImage, FloatMap, Mask
from blemish.geometry import mask_bounds
from blemish.imaging.blob import otsu_level

MIN_EXPLAINED = 0.75  # share of the grey values' variance between Otsu's two groups, for one to be background
MIN_BORDER = 0.6  # share of the picture's border that is background
MAX_POSITIONS = 40  # random positions tried for a shape


@dataclass(frozen=True, slots=True)
class SyntheticDefect:
    """One synthetic defect: its class, its mask (H, W), and all that is needed to make it again."""

    label: str
    kind: str
    step: int  # index in the specification
    seed: tuple[int, ...]
    mask: Mask
    details: dict[str, Any] = field(default_factory=dict)


@dataclass(slots=True)
class SyntheticScene:
    """Image (H, W, C) float32 in [0, 1], the pixels (H, W) that defects may cover, and the defects made so far.

    `warps` are the maps of the geometric steps carried out, for anything else that moves with the image.
    """

    image: FloatImage
    part: Mask
    light: float = 0.0  # direction that light comes from, in radians
    level: float = 1.0  # share of full scale that images use; it is 1 in `image` until all steps are done
    part_size: float | None = None  # extent of the whole part, where the image is a tile
    defects: list[SyntheticDefect] = field(default_factory=list)
    warps: list[tuple[FloatMap, FloatMap]] = field(default_factory=list)

    @property
    def free(self) -> Mask:
        """Pixels of the part without a defect."""
        free = self.part
        for defect in self.defects:
            free = free & ~defect.mask
        return free

    @property
    def extent(self) -> float:
        """Shorter side of the part's bounding box in px: the unit of lengths in defect specifications."""
        return part_extent(self.part) if self.part_size is None else self.part_size


@dataclass(frozen=True, slots=True)
class PartMask:
    """Pixels (H, W) of the workpiece in an image, and its extent in px where the image does not contain all of it."""

    mask: Mask
    extent: float | None = None


def part_extent(part: Mask) -> float:
    """Shorter side of the bounding box of pixels (H, W)."""
    x0, y0, x1, y1 = mask_bounds(part) or (0, 0, 0, 0)
    return float(min(x1 - x0, y1 - y0))


def find_part_mask(image: FloatImage) -> Mask:
    """Pixels (H, W) of the part in an image (H, W, C), by Otsu's threshold where a plain background surrounds it.

    The whole picture where the grey values do not form two groups of which one covers the border. Holes in the part
    belong to it.
    """
    grey = np.clip(image.mean(axis=2) * 255, 0, 255).astype(np.uint8)
    grey = np.asarray(cv2.medianBlur(grey, 5))
    bright = grey > otsu_level(grey)
    whole = np.ones(grey.shape, np.bool_)
    variance = float(grey.var())
    if variance == 0 or bright.all() or not bright.any():
        return whole
    share = float(bright.mean())
    between = share * (1 - share) * float(grey[bright].mean() - grey[~bright].mean()) ** 2
    border = np.concatenate([bright[0], bright[-1], bright[:, 0], bright[:, -1]])
    background = bright if border.mean() > 0.5 else ~bright
    held = max(float(border.mean()), 1 - float(border.mean()))
    if between / variance < MIN_EXPLAINED or held < MIN_BORDER:
        return whole
    padded = np.pad(background, 1, constant_values=True)
    labels = cv2.connectedComponents(padded.astype(np.uint8), connectivity=4)[1]
    return (labels != labels[0, 0])[1:-1, 1:-1]  # background that the border does not reach is a hole


def find_free_position(rng: np.random.Generator, shape: Mask, free: Mask) -> tuple[int, int] | None:
    """Row and column for the upper left corner of a shape (h, w), so that it lies wholly on free pixels, or None."""
    height, width = shape.shape
    rows, columns = np.nonzero(free)
    if not len(rows) or height > free.shape[0] or width > free.shape[1]:
        return None
    for index in rng.integers(len(rows), size=MAX_POSITIONS):
        top, left = int(rows[index]) - height // 2, int(columns[index]) - width // 2
        inside = 0 <= top <= free.shape[0] - height and 0 <= left <= free.shape[1] - width
        if inside and not (shape & ~free[top : top + height, left : left + width]).any():
            return top, left
    return None


def is_visible(before: FloatImage, after: FloatImage, mask: Mask, threshold: float) -> bool:
    """Whether the mean change inside the mask reaches the threshold, a share of full scale.

    The change is smoothed a little first: one grain instead of another is no defect.
    """
    change = cv2.GaussianBlur((after - before).mean(axis=2), (0, 0), 1.0)
    return bool(mask.any()) and float(np.abs(change)[mask].mean()) >= threshold


def dominant_label(defects: list[SyntheticDefect]) -> str:
    """The class that covers most pixels."""
    areas: dict[str, int] = {}
    for defect in defects:
        areas[defect.label] = areas.get(defect.label, 0) + int(defect.mask.sum())
    return max(sorted(areas), key=areas.__getitem__)
