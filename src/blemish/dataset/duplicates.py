"""Near duplicates among many images: a perceptual hash to find candidates, the fine structure to confirm them."""

from collections.abc import Iterator
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from blemish.arrays import Vectors

HASH_BITS = 64
MAX_DISTANCE = 10  # Hamming, of 64
MIN_CORRELATION = 0.9  # of the signatures
_SIDE = 48
_MIN_FOR_MEAN = 10  # images
_ROWS = 1024  # of the comparison at a time: 40 MB at 10,000 images


def perceptual_hash(image: NDArray[Any]) -> Vectors:
    """Sign (+1, -1) of 64 low frequencies of the cosine transform of the grey image at 32 × 32, without the mean."""
    low = cv2.dct(small_grey(image, 32))[:8, :9].ravel()[1:65]
    return np.where(low > np.median(low), np.float32(1), np.float32(-1))


def fine_structure(image: NDArray[Any]) -> Vectors:
    """What is left of the grey image at 48 × 48 when its surroundings are subtracted, as a unit vector.

    It is blind to brightness and contrast, and nearly so to another size or compression.
    """
    grey = small_grey(image, _SIDE)
    return np.asarray(_normalize((grey - cv2.GaussianBlur(grey, (0, 0), 1.5)).reshape(1, -1))[0])


def signatures(structures: Vectors) -> Vectors:
    """Unit vectors (N, D) of the differences between images: without the structure that all of them share.

    Aligned images of similar parts correlate at 0.9 and more; without their mean, at 0. The mean of a few images is no
    estimate, so that they are left as they are.
    """
    return structures if len(structures) < _MIN_FOR_MEAN else _normalize(structures - structures.mean(axis=0))


def near_pairs(hashes: Vectors, signatures: Vectors) -> Iterator[tuple[int, int, float]]:
    """Pairs i < j of similar images with their correlation, from `perceptual_hash` and `signatures`.

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


def small_grey(image: NDArray[Any], side: int) -> Vectors:
    """(H, W, C) of any depth as (side, side) float32, 0 to 255 where the depth has a full scale."""
    grey = cv2.cvtColor(image, cv2.COLOR_RGB2GRAY) if image.shape[2] == 3 else np.ascontiguousarray(image[..., 0])
    shrinks = side <= min(grey.shape)
    small = cv2.resize(grey, (side, side), interpolation=cv2.INTER_AREA if shrinks else cv2.INTER_LINEAR)
    scale = {"uint8": 1.0, "uint16": 255 / 65535}.get(str(image.dtype), 255.0)
    return np.nan_to_num(small.astype(np.float32)) * np.float32(scale)


def _normalize(rows: Vectors) -> Vectors:
    lengths = np.linalg.norm(rows, axis=1, keepdims=True)
    return np.asarray(np.where(lengths > 1e-3, rows / np.maximum(lengths, 1e-3), 0), np.float32)
