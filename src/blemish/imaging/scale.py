"""Pixels per millimetre from a picture of a known target."""

from typing import Any, Literal, get_args

import cv2
import numpy as np
from numpy.typing import NDArray

from blemish.errors import ImageError
from blemish.imaging.prepare import to_unit

Pattern = Literal["chessboard", "circles"]
PATTERNS: tuple[Pattern, ...] = get_args(Pattern)


def scale_from_target(
    image: NDArray[Any], columns: int, rows: int, pitch_mm: float, pattern: Pattern = "chessboard"
) -> tuple[float, float]:
    """(x, y) pixels per millimetre from an image (H, W, C) of a target that lies square to the picture's axes.

    `columns` x `rows` are the chessboard's inner corners, or the circles; `pitch_mm` is their distance. Raises
    ImageError where the target is not found, or is turned by more than ten degrees.
    """
    grey = np.round(to_unit(image).mean(axis=2) * 255).astype(np.uint8)
    if pattern == "chessboard":
        found, points = cv2.findChessboardCornersSB(grey, (columns, rows))
    else:
        found, points = cv2.findCirclesGrid(grey, (columns, rows), flags=cv2.CALIB_CB_SYMMETRIC_GRID)
    if not found:
        raise ImageError(
            f"no {pattern} of {columns} x {rows} points was found; check the counts, the focus and that all of it shows"
        )
    grid = points.reshape(rows, columns, 2).astype(np.float64)
    along, down = _step(grid, axis=1), _step(grid, axis=0)
    if abs(along[0]) < abs(along[1]):  # the detector may run through the target the other way
        along, down = down, along
    turn = np.degrees(np.arctan2(abs(along[1]), abs(along[0])))
    if turn > 10:
        raise ImageError(f"the target is turned by {turn:.0f} degrees; lay it square to the picture")
    # A step in mm, turned, then stretched by the scales of x and y: what both steps have of x gives its scale.
    x, y = np.hypot(along, down) / pitch_mm
    return float(x), float(y)


def _step(grid: NDArray[np.float64], axis: int) -> NDArray[np.float64]:
    """Mean way from one point to the next, from a straight line fitted through each row or column."""
    lines = np.moveaxis(grid, axis, 0)
    place = np.arange(len(lines)) - (len(lines) - 1) / 2
    step: NDArray[np.float64] = (place[:, None, None] * lines).sum(axis=0).mean(axis=0) / (place**2).sum()
    return step
