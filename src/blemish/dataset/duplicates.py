"""Near duplicates among many images: a perceptual hash to find candidates, the fine structure to confirm them."""

from collections.abc import Iterator
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

HASH_BITS = 64
MAX_DISTANCE = 10  # Hamming, of 64
MIN_CORRELATION = 0.9  # of the signatures
_SIDE = 48
_ENOUGH_FOR_MEAN = 10
_ROWS = 1024  # of the comparison at a time: 40 MB at 10,000 images


def perceptual_hash(image: NDArray[Any]) -> NDArray[np.float32]:
    """Sign (+1, -1) of 64 low frequencies of the cosine transform of the grey image at 32 × 32, without the mean."""
    low = cv2.dct(small_grey(image, 32))[:8, :9].ravel()[1:65]
    signs: NDArray[np.float32] = np.where(low > np.median(low), 1, -1).astype(np.float32)
    return signs


def fine_structure(image: NDArray[Any]) -> NDArray[np.float32]:
    """What is left of the grey image at 48 × 48 when its surroundings are subtracted, as a unit vector.

    It is blind to brightness and contrast, and nearly so to another size or compression.
    """
    grey = small_grey(image, _SIDE)
    fine: NDArray[np.float32] = _unit((grey - cv2.GaussianBlur(grey, (0, 0), 1.5)).reshape(1, -1))[0]
    return fine


def signatures(structures: NDArray[np.float32]) -> NDArray[np.float32]:
    """Unit vectors (N, D) of what tells the images apart: without the structure that all of them share.

    Aligned pictures of alike parts correlate at 0.9 and more; without their mean, at 0. A few images have no mean
    worth the name and are left as they are.
    """
    return structures if len(structures) < _ENOUGH_FOR_MEAN else _unit(structures - structures.mean(axis=0))


def near_pairs(
    hashes: NDArray[np.float32],
    signatures: NDArray[np.float32],
) -> Iterator[tuple[int, int, float]]:
    """Pairs i < j of alike images with their correlation, from `perceptual_hash` and `signatures`.

    One matrix product a block of rows: for ±1 bits, the product is 64 minus twice the Hamming distance.
    """
    for start in range(0, len(hashes), _ROWS):
        alike = hashes[start : start + _ROWS] @ hashes[start:].T >= HASH_BITS - 2 * MAX_DISTANCE
        alike &= np.arange(alike.shape[1])[None] > np.arange(alike.shape[0])[:, None]
        rows, columns = np.flatnonzero(alike.any(axis=1)), np.flatnonzero(alike.any(axis=0))
        if not len(rows):
            continue
        correlation = signatures[start + rows] @ signatures[start + columns].T
        for i, j in zip(*np.nonzero(alike[np.ix_(rows, columns)] & (correlation >= MIN_CORRELATION)), strict=True):
            yield int(start + rows[i]), int(start + columns[j]), float(correlation[i, j])


def small_grey(image: NDArray[Any], side: int) -> NDArray[np.float32]:
    """(H, W, C) of any depth as (side, side) float32, 0 to 255 where the depth has a full scale."""
    grey = cv2.cvtColor(image, cv2.COLOR_RGB2GRAY) if image.shape[2] == 3 else np.ascontiguousarray(image[..., 0])
    shrinks = side <= min(grey.shape)
    small = cv2.resize(grey, (side, side), interpolation=cv2.INTER_AREA if shrinks else cv2.INTER_LINEAR)
    scale = {"uint8": 1.0, "uint16": 255 / 65535}.get(str(image.dtype), 255.0)
    return np.nan_to_num(small.astype(np.float32)) * np.float32(scale)


def _unit(rows: NDArray[np.float32]) -> NDArray[np.float32]:
    lengths = np.linalg.norm(rows, axis=1, keepdims=True)
    return np.asarray(np.where(lengths > 1e-3, rows / np.maximum(lengths, 1e-3), 0), np.float32)
