"""Real defects, cut out of labelled images with some of their surroundings, ready to be pasted elsewhere."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from blemish.dataset.ground_truth import has_mask, instances_of
from blemish.dataset.sample import Sample
from blemish.imaging.prepare import to_unit
from blemish.imaging.read import read_image

Floats = NDArray[Any]
Bools = NDArray[np.bool_]
AROUND = 12  # px of surroundings, at least
LARGEST = 0.3  # share of the image; what covers more cannot be moved to another place
SMALLEST = 4  # px


@dataclass(frozen=True, slots=True)
class Cut:
    """Pixels (h, w, C) in [0, 1] with the mask (h, w) of the defect; which borders of its image it touches."""

    pixels: Floats
    mask: Bools
    label: str
    source: str
    sides: tuple[bool, bool, bool, bool] = (False, False, False, False)  # left, top, right, bottom
    box: tuple[int, int, int, int] = (0, 0, 0, 0)  # of the defect in its image


def cut(image: Floats, mask: Bools, label: str, source: str) -> Cut | None:
    """The defect of a mask (H, W) cut out of an image (H, W, C), None where it is too small or too large to move."""
    x, y, width, height = cv2.boundingRect(mask.astype(np.uint8))
    area = int(mask.sum())
    if area < SMALLEST or width * height > LARGEST * mask.size:
        return None
    around = max(AROUND, round(0.25 * max(width, height)))
    x0, y0 = max(0, x - around), max(0, y - around)
    x1, y1 = min(mask.shape[1], x + width + around), min(mask.shape[0], y + height + around)
    sides = (x == 0, y == 0, x + width == mask.shape[1], y + height == mask.shape[0])
    part = np.s_[y0:y1, x0:x1]
    return Cut(image[part].copy(), mask[part].copy(), label, source, sides, (x, y, x + width, y + height))


def cuts_of(samples: Iterable[Sample]) -> list[Cut]:
    """Every defect of the samples whose pixels are known. Raises ImageError for files that cannot be read."""
    found = []
    for sample in samples:
        if not sample.defective or not has_mask(sample):
            continue
        image = to_unit(read_image(sample.image))
        for defect in instances_of(sample, (image.shape[0], image.shape[1])):
            x0, y0, x1, y1 = defect.box
            mask = np.zeros(image.shape[:2], np.bool_)
            mask[y0:y1, x0:x1] = defect.mask
            piece = cut(image, mask, defect.label, str(sample.image))
            if piece is not None:
                found.append(piece)
    return found
