"""The part by its edge: the largest closed outline, for a part that differs from its background only at the rim."""

from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from blemish.arrays import Mask
from blemish.errors import ImageError
from blemish.imaging.blob import largest_region, otsu_level, to_grey

_MIN_STEP = 0.02  # of full scale: a weaker step is noise
_CANNY_SCALE = 16000.0  # Canny takes slopes as int16


def find_contour(
    image: NDArray[Any], strength: float | None = None, smooth: float = 1.5, bridge: int = 5, min_area: float = 0.01
) -> Mask:
    """Mask (H, W) of what the largest closed edge in an image (H, W, C) encloses.

    Edges are those of Canny 1986 after a Gaussian of `smooth` px; `strength` is the step, as a share of full scale,
    from which an edge counts (None: Otsu's level of all steps), and half of it is enough to carry one on. Gaps of up to
    `bridge` px are closed. Raises ImageError where no edge encloses `min_area`, a share of the image.
    """
    grey = cv2.GaussianBlur(to_grey(image), (0, 0), smooth) if smooth > 0 else to_grey(image)
    # A step of height 1, blurred, has the slope 1 / (sqrt(2 pi) sigma), and Sobel gives 8 times the slope.
    per_step = 8 / (np.sqrt(2 * np.pi) * max(smooth, 0.4))
    dx, dy = (np.asarray(cv2.Sobel(grey, cv2.CV_32F, 1 - k, k)) / per_step for k in (0, 1))
    high = _otsu_step(np.hypot(dx, dy)) if strength is None else strength
    slopes = [np.clip(d * _CANNY_SCALE, -32000, 32000).astype(np.int16) for d in (dx, dy)]
    edges = cv2.Canny(slopes[0], slopes[1], high / 2 * _CANNY_SCALE, high * _CANNY_SCALE, L2gradient=True)
    return enclosed_region(np.asarray(edges > 0), bridge, min_area)


def enclosed_region(edges: Mask, bridge: int, min_area: float) -> Mask:
    """Mask of the area that the largest closed line of an edge image (H, W) encloses, gaps of `bridge` px closed."""
    size = bridge + 1 - bridge % 2
    kernel = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (size, size))
    margin = bridge + 1  # so that what touches the image's border can be opened again without loss
    closed = cv2.morphologyEx(np.pad(edges.astype(np.uint8), margin), cv2.MORPH_CLOSE, kernel)
    # A line that does not close encloses nothing: what the outside does not reach is inside.
    outside = closed.copy()
    cv2.floodFill(outside, None, (0, 0), 2)
    # Lines alone, without an inside, are thinner than this opening.
    opening = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (2 * size + 1, 2 * size + 1))
    body = cv2.morphologyEx((outside != 2).astype(np.uint8), cv2.MORPH_OPEN, opening)
    return largest_region(np.asarray(body[margin:-margin, margin:-margin] > 0), min_area, "no closed outline")


def _otsu_step(steps: NDArray[np.float32]) -> float:
    """Otsu's level of the steps of grey at all pixels."""
    top = float(steps.max())
    if top < _MIN_STEP:
        raise ImageError("no part was found: there is no edge in the image; check camera and light")
    return max(_MIN_STEP, otsu_level((steps / top * 255).astype(np.uint8)) / 255 * top)
