"""Real defects, cut out of labelled images with some of their surroundings, ready to be pasted elsewhere."""

from collections.abc import Iterable
from dataclasses import dataclass

import cv2
import numpy as np

from blemish.arrays import FloatImage, Mask, PixelBox
from blemish.dataset.ground_truth import defect_instances, has_mask
from blemish.dataset.sample import Sample
from blemish.imaging.pixel_range import PixelSpec, scale_pixels
from blemish.imaging.prepare import to_unit
from blemish.imaging.read import read_image

MIN_MARGIN = 12  # px of surroundings
MAX_CUTOUT_SHARE = 0.3  # share of the image; a larger defect cannot be moved elsewhere
MIN_AREA_PX = 4  # px


@dataclass(frozen=True, slots=True)
class DefectCutout:
    """A defect with its surroundings: pixels (h, w, C) in [0, 1], mask (h, w), borders of its image that it touches."""

    pixels: FloatImage
    mask: Mask
    label: str
    source: str
    sides: tuple[bool, bool, bool, bool] = (False, False, False, False)  # left, top, right, bottom
    box: PixelBox = (0, 0, 0, 0)  # of the defect in its image


def cut_out(image: FloatImage, mask: Mask, label: str, source: str) -> DefectCutout | None:
    """The defect of a mask (H, W) cut out of an image (H, W, C), None where it is too small or too large to move."""
    x, y, width, height = cv2.boundingRect(mask.astype(np.uint8))
    area = int(mask.sum())
    if area < MIN_AREA_PX or width * height > MAX_CUTOUT_SHARE * mask.size:
        return None
    margin = max(MIN_MARGIN, round(0.25 * max(width, height)))
    x0, y0 = max(0, x - margin), max(0, y - margin)
    x1, y1 = min(mask.shape[1], x + width + margin), min(mask.shape[0], y + height + margin)
    sides = (x == 0, y == 0, x + width == mask.shape[1], y + height == mask.shape[0])
    window = np.s_[y0:y1, x0:x1]
    return DefectCutout(image[window].copy(), mask[window].copy(), label, source, sides, (x, y, x + width, y + height))


def cut_defects(samples: Iterable[Sample], pixels: PixelSpec | None = None) -> list[DefectCutout]:
    """Every defect of the samples whose pixels are known, from images at the scale of `pixels`.

    Raises ImageError for files that cannot be read.
    """
    cutouts = []
    for sample in samples:
        if not sample.defective or not has_mask(sample):
            continue
        image = to_unit(scale_pixels(read_image(sample.image), pixels))
        for defect in defect_instances(sample, (image.shape[0], image.shape[1])):
            x0, y0, x1, y1 = defect.box
            mask = np.zeros(image.shape[:2], np.bool_)
            mask[y0:y1, x0:x1] = defect.mask
            piece = cut_out(image, mask, defect.label, str(sample.image))
            if piece is not None:
                cutouts.append(piece)
    return cutouts
