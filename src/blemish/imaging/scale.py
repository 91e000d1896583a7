"""Pixels per millimetre from an image of a known target."""

from typing import Any, Literal, get_args

import cv2
import numpy as np
from numpy.typing import NDArray

from blemish.errors import ImageError
from blemish.imaging.blob import to_grey

Pattern = Literal["chessboard", "circles"]
_MAX_ROTATION = 10  # degrees
PATTERNS: tuple[Pattern, ...] = get_args(Pattern)


def scale_from_target(
    image: NDArray[Any], columns: int, rows: int, pitch_mm: float, pattern: Pattern = "chessboard"
) -> tuple[float, float]:
    """(x, y) pixels per millimetre from an image (H, W, C) of a target whose axes are those of the image.

    `columns` x `rows` are the chessboard's inner corners, or the circles; `pitch_mm` is their distance. Raises
    ImageError where the target is not found, or is rotated by more than ten degrees.
    """
    grey = np.round(to_grey(image) * 255).astype(np.uint8)
    if pattern == "chessboard":
        found, points = cv2.findChessboardCornersSB(grey, (columns, rows))
    else:
        found, points = cv2.findCirclesGrid(grey, (columns, rows), flags=cv2.CALIB_CB_SYMMETRIC_GRID)
    if not found:
        raise ImageError(
            f"no {pattern} of {columns} x {rows} points was found; check counts, focus and that none of it is cut off"
        )
    grid = points.reshape(rows, columns, 2).astype(np.float64)
    along, down = _mean_step(grid, axis=1), _mean_step(grid, axis=0)
    if abs(along[0]) < abs(along[1]):  # the detector may run through the target the other way
        along, down = down, along
    rotation = np.degrees(np.arctan2(abs(along[1]), abs(along[0])))
    if rotation > _MAX_ROTATION:
        raise ImageError(f"the target is turned by {rotation:.0f} degrees; align it with the image's axes")
    # A step in mm, rotated, then stretched by the scales of x and y: the x components of both steps give its scale.
    x, y = np.hypot(along, down) / pitch_mm
    return float(x), float(y)


def _mean_step(grid: NDArray[np.float64], axis: int) -> NDArray[np.float64]:
    """Mean vector from one point to the next, from a straight line fitted through each row or column."""
    lines = np.moveaxis(grid, axis, 0)
    position = np.arange(len(lines)) - (len(lines) - 1) / 2
    slopes = (position[:, None, None] * lines).sum(axis=0) / (position**2).sum()
    return np.asarray(slopes.mean(axis=0))
