"""An image in the making: its pixels, the part on it, and the defects that were put there."""

from dataclasses import dataclass, field
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

Floats = NDArray[Any]  # float32
Bools = NDArray[np.bool_]
SEPARATED = 0.75  # share of the grey values' variance that Otsu's two groups must explain, for one to be background
BORDER = 0.6  # share of the picture's border that the background must hold
TRIES = 40  # random places looked at for a shape


@dataclass(frozen=True, slots=True)
class Defect:
    """One defect that was made: its class, its pixels (H, W), and all it takes to make it again."""

    label: str
    kind: str
    step: int  # of the recipe
    seed: tuple[int, ...]
    mask: Bools
    details: dict[str, Any] = field(default_factory=dict)


@dataclass(slots=True)
class Scene:
    """Image (H, W, C) float32 in [0, 1], the pixels (H, W) that defects may cover, and the defects put there so far.

    `warps` are the maps of geometric steps done so far, for whatever else is to move with the image.
    """

    image: Floats
    part: Bools
    light: float = 0.0  # direction that light comes from, in radians
    level: float = 1.0  # of full scale, which is 1 in the image while it is made
    given_extent: float | None = None  # of the whole part, where the image is a tile
    defects: list[Defect] = field(default_factory=list)
    warps: list[tuple[Floats, Floats]] = field(default_factory=list)

    @property
    def free(self) -> Bools:
        """Pixels of the part without a defect."""
        free = self.part
        for defect in self.defects:
            free = free & ~defect.mask
        return free

    @property
    def extent(self) -> float:
        """Shorter side of the part's bounding box in px: the unit of lengths in recipes."""
        return extent_of(self.part) if self.given_extent is None else self.given_extent


@dataclass(frozen=True, slots=True)
class Part:
    """Pixels (H, W) of the part in an image, and the unit of lengths in px where the image does not show all of it."""

    mask: Bools
    extent: float | None = None


def extent_of(part: Bools) -> float:
    """Shorter side of the bounding box of pixels (H, W)."""
    _, _, width, height = cv2.boundingRect(part.astype(np.uint8))
    return float(min(width, height))


def part_mask(image: Floats) -> Bools:
    """Pixels (H, W) of the part in an image (H, W, C), by Otsu's threshold where a plain background surrounds it.

    The whole picture, where grey values do not fall apart into two groups of which one holds the border. Holes in the
    part belong to it.
    """
    grey = np.clip(image.mean(axis=2) * 255, 0, 255).astype(np.uint8)
    grey = np.asarray(cv2.medianBlur(grey, 5))
    threshold, _ = cv2.threshold(grey, 0, 1, cv2.THRESH_OTSU)
    bright = grey > threshold
    whole = np.ones(grey.shape, np.bool_)
    variance = float(grey.var())
    if variance == 0 or bright.all() or not bright.any():
        return whole
    share = float(bright.mean())
    between = share * (1 - share) * float(grey[bright].mean() - grey[~bright].mean()) ** 2
    border = np.concatenate([bright[0], bright[-1], bright[:, 0], bright[:, -1]])
    background = bright if border.mean() > 0.5 else ~bright
    held = max(float(border.mean()), 1 - float(border.mean()))
    if between / variance < SEPARATED or held < BORDER:
        return whole
    return ~_reached_from_border(background)


def _reached_from_border(mask: Bools) -> Bools:
    padded = np.pad(mask, 1, constant_values=True)
    _, labels = cv2.connectedComponents(padded.astype(np.uint8), connectivity=4)
    return np.asarray((labels == labels[0, 0])[1:-1, 1:-1])


def find_place(rng: np.random.Generator, shape: Bools, free: Bools) -> tuple[int, int] | None:
    """Row and column for the upper left corner of a shape (h, w), so that it lies wholly on free pixels, or None."""
    height, width = shape.shape
    rows, columns = np.nonzero(free)
    if not len(rows) or height > free.shape[0] or width > free.shape[1]:
        return None
    for chosen in rng.integers(len(rows), size=TRIES):
        top, left = int(rows[chosen]) - height // 2, int(columns[chosen]) - width // 2
        inside = 0 <= top <= free.shape[0] - height and 0 <= left <= free.shape[1] - width
        if inside and not (shape & ~free[top : top + height, left : left + width]).any():
            return top, left
    return None


def visible(before: Floats, after: Floats, mask: Bools, least: float) -> bool:
    """Whether the change inside the mask is, on average, at least that much of full scale.

    Of the change after a little smoothing: one grain for another is no defect.
    """
    change = cv2.GaussianBlur((after - before).mean(axis=2), (0, 0), 1.0)
    return bool(mask.any()) and float(np.abs(change)[mask].mean()) >= least


def main_label(defects: list[Defect]) -> str:
    """The class that covers most pixels."""
    areas: dict[str, int] = {}
    for defect in defects:
        areas[defect.label] = areas.get(defect.label, 0) + int(defect.mask.sum())
    return max(sorted(areas), key=areas.__getitem__)
