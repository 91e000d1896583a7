"""Steps that move pixels: a map of where each pixel comes from, which image and masks share.

Pixels that a warp brings in from beyond the border repeat the border's, in image and masks alike, and are not valid.
Mirrored instead, a defect near the border would be there twice, and its box would hold both.
"""

import math

import cv2
import numpy as np

from blemish.arrays import FloatImage, FloatMap, Mask
from blemish.synthesis.defect_spec import Affine, Elastic

WarpMap = tuple[FloatMap, FloatMap]  # x and y (H, W) that each pixel is taken from


def affine(size: tuple[int, int], step: Affine, rng: np.random.Generator) -> WarpMap:
    """Turn, scale, shear, shift and perhaps mirror an image of `size` (height, width) about its middle."""
    height, width = size
    turn, shear = math.radians(rng.uniform(*step.turn)), math.tan(math.radians(rng.uniform(*step.shear)))
    scale = rng.uniform(*step.scale)
    shift = rng.uniform(*step.shift, 2) * (width, height)
    mirror = -1.0 if step.mirror and rng.random() < 0.5 else 1.0
    rotation = np.array([[math.cos(turn), -math.sin(turn)], [math.sin(turn), math.cos(turn)]])
    matrix = scale * rotation @ np.array([[1, shear], [0, 1]]) @ np.diag([mirror, 1.0])
    back = np.linalg.inv(matrix)
    y, x = np.mgrid[0:height, 0:width].astype(np.float64)
    middle = np.array([(width - 1) / 2, (height - 1) / 2])
    dx, dy = x - middle[0] - shift[0], y - middle[1] - shift[1]
    from_x = back[0, 0] * dx + back[0, 1] * dy + middle[0]
    from_y = back[1, 0] * dx + back[1, 1] * dy + middle[1]
    return from_x.astype(np.float32), from_y.astype(np.float32)


def elastic(size: tuple[int, int], step: Elastic, rng: np.random.Generator) -> WarpMap:
    """A smooth random displacement of an image of `size` (height, width)."""
    height, width = size
    side = min(size)
    y, x = np.mgrid[0:height, 0:width].astype(np.float32)
    reach = rng.uniform(*step.reach) * side
    moved = []
    for axis in (x, y):
        field = cv2.GaussianBlur(rng.standard_normal(size, np.float32), (0, 0), max(0.5, step.smoothness * side))
        moved.append(axis + reach * field / max(float(field.std()), 1e-9))
    return moved[0], moved[1]


def warp_image(image: FloatImage, where: WarpMap) -> FloatImage:
    """Image (H, W, C) warped, linear."""
    warped = cv2.remap(image, *where, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
    return np.asarray(warped.reshape(image.shape), np.float32)


def warp_mask(mask: Mask, where: WarpMap) -> Mask:
    """Mask (H, W) of defects warped, nearest pixel."""
    return _nearest(mask, where, cv2.BORDER_REPLICATE)


def warp_valid(valid: Mask, where: WarpMap) -> Mask:
    """Valid mask (H, W) warped, nearest pixel; False where a pixel came from beyond the border."""
    return _nearest(valid, where, cv2.BORDER_CONSTANT)


def _nearest(mask: Mask, where: WarpMap, beyond: int) -> Mask:
    return np.asarray(cv2.remap(mask.astype(np.uint8), *where, cv2.INTER_NEAREST, borderMode=beyond) > 0)
