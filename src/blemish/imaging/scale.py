"""Pixels per millimetre from an image of a flat target, apart from perspective and lens distortion.

Model: millimetres on the target, through a homography, then a radial distortion with one coefficient around the
image's centre (Brown 1966, in the direction from distorted to straight), give pixels. The scale is the local one,
averaged over the image; how much it varies over the image is part of its uncertainty, because images are not rectified
before they are measured. A telecentric lens has no perspective, and the map in place of the homography is affine.
"""

from dataclasses import dataclass
from typing import Any, Literal, get_args

import cv2
import numpy as np
from numpy.typing import NDArray

from blemish.arrays import Points
from blemish.errors import ImageError
from blemish.imaging.blob import to_grey

Pattern = Literal["chessboard", "circles"]
PATTERNS: tuple[Pattern, ...] = get_args(Pattern)
MAX_RESIDUAL = 1.0  # px, root mean square: above it the target is bent, or its counts are wrong
MAX_DISTORTION = 0.5  # share of its radius by which a corner of the image may be moved
MIN_COVERAGE = 0.3  # share of the image's area that the target should cover
_GRID = 21  # points along each side of the image where the local scale is taken
_NORMAL_90 = 1.645  # 90 % of a normal distribution lie within so many standard deviations


@dataclass(frozen=True, slots=True)
class TargetScale:
    """Pixels per millimetre along x and y of the image, and how far they can be trusted."""

    x: float
    y: float
    residual_px: float  # root mean square distance of the points from the model
    distortion: float  # share of its radius by which the lens moves the image's corner; negative: barrel
    perspective: float  # largest share by which the scale differs over the image on account of a tilted target
    variation: float  # share of the mean scale within which 90 % of the local scales over the image lie
    uncertainty: float  # relative, of the scale: variation, fit and pitch together; 90 % lie within
    coverage: float  # share of the image that the target covers


def scale_from_target(
    image: NDArray[Any],
    columns: int,
    rows: int,
    pitch_mm: float,
    pattern: Pattern = "chessboard",
    pitch_uncertainty_mm: float = 0.0,
    telecentric: bool = False,
) -> TargetScale:
    """Scale from an image (H, W, C) of a target.

    `columns` x `rows` are the chessboard's inner corners, or the circles; `pitch_mm` is their distance, with an
    uncertainty within which 90 % lie. Raises ImageError where the target is not found, or does not fit the model.
    """
    grey = np.round(to_grey(image) * 255).astype(np.uint8)
    if pattern == "chessboard":
        found, corners = cv2.findChessboardCornersSB(grey, (columns, rows), flags=cv2.CALIB_CB_ACCURACY)
    else:
        found, corners = cv2.findCirclesGrid(grey, (columns, rows), flags=cv2.CALIB_CB_SYMMETRIC_GRID)
    if not found:
        raise ImageError(
            f"no {pattern} of {columns} x {rows} points was found; check counts, focus and that none of it is cut off"
        )
    pixels = corners.reshape(-1, 2).astype(np.float64)
    column, row = np.meshgrid(np.arange(columns), np.arange(rows))
    target = pitch_mm * np.stack([column.ravel(), row.ravel()], axis=1).astype(np.float64)
    size = (grey.shape[0], grey.shape[1])
    return fit_scale(target, pixels, size, pitch_uncertainty_mm / pitch_mm, telecentric)


def fit_scale(
    target: Points,
    pixels: Points,
    size: tuple[int, int],
    pitch_uncertainty: float = 0.0,
    telecentric: bool = False,
) -> TargetScale:
    """Scale from points (N, 2) in mm and in px of an image of size (H, W); ImageError where the model does not fit."""
    centre, radius = (np.array(size[::-1]) - 1) / 2, float(np.hypot(*size)) / 2

    def misfit(strength: float) -> tuple[float, NDArray[np.float64]]:
        straight = _straighten(pixels, strength, centre, radius)
        homography = _fit_affine(target, straight) if telecentric else cv2.findHomography(target, straight)[0]
        if homography is None:
            raise ImageError("the points of the target lie on one line")
        back = cv2.perspectiveTransform(target[None], homography)[0]
        return float(((back - straight) ** 2).sum()), np.asarray(homography, np.float64)

    strength = _minimise(lambda value: misfit(value)[0], -MAX_DISTORTION, MAX_DISTORTION)
    squares, homography = misfit(strength)
    residual = float(np.sqrt(squares / len(pixels)))
    if residual > MAX_RESIDUAL:
        raise ImageError(
            f"the points are {residual:.2f} px off a flat target{' under a telecentric lens' * telecentric}; check its "
            "counts, and that it is flat and not blurred"
        )
    places = np.stack(
        np.meshgrid(np.linspace(0, size[1] - 1, _GRID), np.linspace(0, size[0] - 1, _GRID)), axis=-1
    ).reshape(-1, 2)
    local = _local_scales(places, homography, strength, centre, radius)
    flat = _local_scales(places, homography, 0.0, centre, radius)
    mean = local.mean(axis=0)
    variation = float(np.quantile(np.abs(local / mean - 1), 0.9))
    covered = cv2.contourArea(cv2.convexHull(pixels.astype(np.float32))) / (size[0] * size[1])
    # Of a line through points with this scatter, over the target's own length.
    degrees = max(1, 2 * len(pixels) - (7 if telecentric else 9))
    scatter = np.sqrt(squares / degrees) / np.sqrt(((pixels - pixels.mean(axis=0)) ** 2).sum(axis=0)).min()
    return TargetScale(
        x=float(mean[0]),
        y=float(mean[1]),
        residual_px=residual,
        distortion=1 / (1 + strength) - 1,
        perspective=float((flat.max(axis=0) / flat.min(axis=0) - 1).max()),
        variation=variation,
        uncertainty=float(np.sqrt(variation**2 + (_NORMAL_90 * scatter) ** 2 + pitch_uncertainty**2)),
        coverage=float(covered),
    )


def _fit_affine(target: Points, straight: Points) -> NDArray[np.float64] | None:
    """The affine map (3, 3) from points (N, 2) to points (N, 2) by least squares; None where they lie on one line."""
    design = np.column_stack([target, np.ones(len(target))])
    found, _, rank, _ = np.linalg.lstsq(design, straight, rcond=None)
    return np.vstack([found.T, [0.0, 0.0, 1.0]]) if rank == 3 else None


def _straighten(points: Points, strength: float, centre: Points, radius: float) -> Points:
    """Points (N, 2) without the lens distortion: moved by `strength` of their distance from the centre at `radius`."""
    away = points - centre
    return np.asarray(centre + away * (1 + strength * (away**2).sum(axis=1, keepdims=True) / radius**2))


def _local_scales(
    places: Points, homography: NDArray[np.float64], strength: float, centre: Points, radius: float
) -> Points:
    """Pixels per mm (N, 2) along x and y at places (N, 2) of the image.

    A step in mm is rotated and then stretched along x and y, so a row of the Jacobian has the length of its scale.
    """
    away = places - centre
    square = (away**2).sum(axis=1)[:, None, None] / radius**2
    lens = (1 + strength * square) * np.eye(2) + 2 * strength * away[:, :, None] * away[:, None, :] / radius**2
    straight = _straighten(places, strength, centre, radius)
    target = cv2.perspectiveTransform(straight[None], np.linalg.inv(homography))[0]
    depth = target @ homography[2, :2] + homography[2, 2]
    slope = homography[:2, :2] - straight[:, :, None] * homography[2, :2]
    jacobian = np.linalg.solve(lens, slope / depth[:, None, None])
    return np.asarray(np.linalg.norm(jacobian, axis=2))


def _minimise(function: Any, low: float, high: float) -> float:
    """The place of a minimum in [low, high]: the best of a coarse grid, then a golden-section search around it."""
    grid = np.linspace(low, high, 41)
    best = int(np.argmin([function(value) for value in grid]))
    low, high = float(grid[max(0, best - 1)]), float(grid[min(len(grid) - 1, best + 1)])
    ratio = (np.sqrt(5) - 1) / 2
    for _ in range(40):
        left, right = high - ratio * (high - low), low + ratio * (high - low)
        low, high = (low, right) if function(left) < function(right) else (left, high)
    return float((low + high) / 2)
