"""Which pixels of an image count: inside its region of interest, and not ignored."""

import cv2
import numpy as np
from numpy.typing import NDArray

from blemish.dataset.sample import Sample
from blemish.errors import ImageError
from blemish.imaging.read import read_mask

_ASPECT_TOLERANCE = 0.02


def valid_mask(sample: Sample, size: tuple[int, int], roi_shape: NDArray[np.bool_] | None = None) -> NDArray[np.bool_]:
    """Mask (H, W) of the pixels that count; `size` is (H, W), `roi_shape` a drawn region (H, W) that limits it further.

    A mask file of another size is scaled where its shape agrees, so that one can hold for images of several sizes;
    otherwise, and where nothing is left, it is an ImageError.
    """
    valid = np.ones(size, bool) if roi_shape is None else roi_shape.astype(bool)
    if valid.shape != size:
        raise ImageError(f"the region of interest has shape {valid.shape}, the image {size}")
    if sample.roi is not None:
        valid = valid & _scaled(sample.roi, size)
    if sample.ignore is not None:
        valid = valid & ~_scaled(sample.ignore, size)
    if not valid.any():
        raise ImageError(f"no pixel of {sample.image} counts: its region of interest and ignore mask leave nothing")
    return valid


def _scaled(path: object, size: tuple[int, int]) -> NDArray[np.bool_]:
    return scaled_mask(read_mask(str(path)), size, f"mask {path}")


def scaled_mask(mask: NDArray[np.bool_], size: tuple[int, int], name: str) -> NDArray[np.bool_]:
    """A mask (h, w) at another size (H, W) of the same shape; ImageError, with its name, where the shape is another."""
    if mask.shape == size:
        return mask
    if abs(mask.shape[0] * size[1] / (mask.shape[1] * size[0]) - 1) > _ASPECT_TOLERANCE:
        raise ImageError(
            f"{name} has {mask.shape[1]}×{mask.shape[0]} pixels and does not fit an image of {size[1]}×{size[0]}"
        )
    return np.asarray(cv2.resize(mask.astype(np.uint8), size[::-1], interpolation=cv2.INTER_NEAREST_EXACT) > 0)
