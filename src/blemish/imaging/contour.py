"""The part by its edge: the largest closed outline, for a part that differs from its ground at the rim only."""

from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from blemish.errors import ImageError
from blemish.imaging.blob import grey_of, largest

Bools = NDArray[np.bool_]
_LEAST_EDGE = 0.02  # of full scale: a weaker step is noise


def find_contour(
    image: NDArray[Any], strength: float | None = None, smooth: float = 1.5, bridge: int = 5, least_area: float = 0.01
) -> Bools:
    """Mask (H, W) of what the largest closed edge in an image (H, W, C) encloses.

    Edges are those of Canny 1986 after a Gaussian of `smooth` px; `strength` is the step, in parts of full scale, from
    which an edge counts (None: Otsu's level of all steps), and half of it is enough to carry one on. Gaps of up to
    `bridge` px are closed. Raises ImageError where no edge encloses `least_area` parts of the image.
    """
    grey = cv2.GaussianBlur(grey_of(image), (0, 0), smooth) if smooth > 0 else grey_of(image)
    # A step of height 1, blurred, has the slope 1 / (sqrt(2 pi) sigma), and Sobel gives 8 times the slope.
    per_step = 8 / (np.sqrt(2 * np.pi) * max(smooth, 0.4))
    dx, dy = (np.asarray(cv2.Sobel(grey, cv2.CV_32F, 1 - k, k)) / per_step for k in (0, 1))
    steps = np.hypot(dx, dy)
    high = _otsu(steps) if strength is None else strength
    scaled = 16000.0  # Canny takes slopes as int16
    slopes = [np.clip(d * scaled, -32000, 32000).astype(np.int16) for d in (dx, dy)]
    edges = cv2.Canny(slopes[0], slopes[1], high / 2 * scaled, high * scaled, L2gradient=True)
    return enclosed(np.asarray(edges > 0), bridge, least_area)


def enclosed(edges: Bools, bridge: int, least_area: float) -> Bools:
    """What the largest closed line of an edge picture (H, W) encloses, gaps of `bridge` px closed."""
    size = bridge + 1 - bridge % 2
    around = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (size, size))
    room = bridge + 1  # so that what touches the picture's edge can be opened again without loss
    lines = np.pad(edges.astype(np.uint8), room)
    closed = cv2.morphologyEx(lines, cv2.MORPH_CLOSE, around)
    # A line that does not close encloses nothing: what the outside does not reach is inside.
    outside = closed.copy()
    cv2.floodFill(outside, None, (0, 0), 2)
    inside = outside != 2
    # Lines alone, without an inside, are thinner than this opening.
    least = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (2 * size + 1, 2 * size + 1))
    body = cv2.morphologyEx(inside.astype(np.uint8), cv2.MORPH_OPEN, least)
    return largest(np.asarray(body[room:-room, room:-room] > 0), least_area, "no closed outline")


def _otsu(steps: NDArray[np.float32]) -> float:
    top = float(steps.max())
    if top < _LEAST_EDGE:
        raise ImageError("no part was found: there is no edge in the picture; check camera and light")
    level, _ = cv2.threshold((steps / top * 255).astype(np.uint8), 0, 1, cv2.THRESH_BINARY | cv2.THRESH_OTSU)
    return max(_LEAST_EDGE, float(level) / 255 * top)
