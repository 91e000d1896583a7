"""The valid pixels of an image: inside its region of interest, and not ignored."""

import cv2
import numpy as np

from blemish.arrays import Mask
from blemish.dataset.ground_truth import read_ignored_pixels
from blemish.dataset.sample import Sample
from blemish.errors import ImageError
from blemish.imaging.read import read_mask

_ASPECT_TOLERANCE = 0.02


def valid_mask(sample: Sample, size: tuple[int, int]) -> Mask:
    """Mask (H, W) of the valid pixels; `size` is (H, W).

    A mask file of another size is scaled where its shape agrees, so that one can hold for images of several sizes;
    otherwise, and where no pixel is left, it is an ImageError.
    """
    valid = np.ones(size, bool)
    if sample.roi is not None:
        valid = valid & scale_mask(read_mask(sample.roi), size, f"mask {sample.roi}")
    if sample.ignore is not None:
        valid = valid & ~scale_mask(read_mask(sample.ignore), size, f"mask {sample.ignore}")
    if sample.mask_classes is not None or sample.ignore_shapes is not None:
        ignored = read_ignored_pixels(sample, size)
        valid = valid if ignored is None else valid & ~ignored
    if not valid.any():
        raise ImageError(f"no valid pixels left in {sample.image} after ROI and ignore masks")
    return valid


def scale_mask(mask: Mask, size: tuple[int, int], name: str) -> Mask:
    """A mask (h, w) at another size (H, W) of the same shape; ImageError, with its name, where the shape is another."""
    if mask.shape == size:
        return mask
    if abs(mask.shape[0] * size[1] / (mask.shape[1] * size[0]) - 1) > _ASPECT_TOLERANCE:
        raise ImageError(
            f"{name} has {mask.shape[1]}×{mask.shape[0]} pixels and does not fit an image of {size[1]}×{size[0]}"
        )
    return np.asarray(cv2.resize(mask.astype(np.uint8), size[::-1], interpolation=cv2.INTER_NEAREST_EXACT) > 0)
