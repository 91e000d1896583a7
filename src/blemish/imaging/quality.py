"""Quality of an image in figures: brightness, sharpness, and its position against a reference image."""

import math

import cv2
import numpy as np

from blemish.arrays import GreyImage, Image

SIDE = 128  # px of the images that positions are compared by
Quality = dict[str, float]


def measure_quality(image: Image, reference: GreyImage | None = None) -> Quality:
    """Brightness (0 to 1), sharpness and, with a thumbnail of a reference image, the shift as a share of the longer
    side, with its parts along x and y, and its confidence.

    Sharpness is the standard deviation of the Laplacian divided by that of the image, so it does not change with light.
    """
    grey = _grey(image)
    spread = float(grey.std())
    sharpness = float(cv2.Laplacian(grey, cv2.CV_32F).std()) / spread if spread > 1e-4 else 0.0
    quality = {"brightness": float(grey.mean()), "sharpness": sharpness}
    if reference is not None:
        window = cv2.createHanningWindow((SIDE, SIDE), cv2.CV_32F)
        (x, y), confidence = cv2.phaseCorrelate(reference, _resize(grey), window)
        height, width = grey.shape
        x, y = (float(d * side / SIDE / max(height, width)) for d, side in ((x, width), (y, height)))
        quality |= {"shift": math.hypot(x, y), "shift_x": x, "shift_y": y, "confidence": float(confidence)}
    return quality


def make_thumbnail(image: Image) -> GreyImage:
    """The image (SIDE, SIDE) that the positions of others are compared with."""
    return _resize(_grey(image))


def _grey(image: Image) -> GreyImage:
    """(H, W, C) as (H, W) float32, full scale 1."""
    full = float(np.iinfo(image.dtype).max) if np.issubdtype(image.dtype, np.integer) else 1.0
    return np.asarray(image.mean(axis=2, dtype=np.float32) / full, np.float32)


def _resize(grey: GreyImage) -> GreyImage:
    return np.asarray(cv2.resize(grey, (SIDE, SIDE), interpolation=cv2.INTER_AREA), np.float32)
