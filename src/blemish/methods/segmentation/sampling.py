"""Sampling against class imbalance: of images, of crops, and of pixels."""

from collections import Counter

import torch
import torch.nn.functional as F
from torch import Tensor

from blemish.dataset.sample import Dataset
from blemish.methods.base import Item
from blemish.methods.common.blocks import flatten_maps

PIXEL_KEYS = ("image", "valid", "mask", "mask_labels", "template", "box_masks")


def balanced_weights(dataset: Dataset, defect_share: float, class_balance: float) -> list[float]:
    """Sampling weight of each image, so that a share `defect_share` of the sampled images is defective.

    Among them an image of a class with n images weighs n^-class_balance. With only good or only defective images, the
    weights of those stay as they are.
    """
    labels = [sample.label for sample in dataset.samples]
    defective = [sample.defective is True for sample in dataset.samples]
    counts = Counter(label for label, bad in zip(labels, defective, strict=True) if bad)
    weights = [counts[label] ** -class_balance if bad else 1.0 for label, bad in zip(labels, defective, strict=True)]
    totals = {side: sum(w for w, bad in zip(weights, defective, strict=True) if bad is side) for side in (True, False)}
    if not all(totals.values()):
        return weights
    shares = {True: defect_share / totals[True], False: (1 - defect_share) / totals[False]}
    return [weight * shares[bad] for weight, bad in zip(weights, defective, strict=True)]


def random_crop(item: Item, side: int, on_defect: float) -> Item:
    """A random square crop of an item; with probability `on_defect` it contains a defect pixel, if there is one."""
    height, width = item["image"].shape[-2:]
    top, left = _random(height - side), _random(width - side)
    if item["mask"].any() and float(torch.rand(())) < on_defect:
        pixels = item["mask"].nonzero()
        y, x = pixels[_random(len(pixels) - 1)].tolist()
        top, left = _start_around(y, side, height), _start_around(x, side, width)
    cropped = {
        key: item[key][..., top : top + side, left : left + side].contiguous() for key in PIXEL_KEYS if key in item
    }
    return {**item, **cropped}


def sample_pixels(features: Tensor, labels: Tensor, keep: Tensor, max_count: int) -> tuple[Tensor, Tensor]:
    """Up to `max_count` random pixels of each class: their features (M, E) and classes (M,), 0 for no defect.

    Features are (N, E, h, w); labels (N, H, W) int64, of valid pixels `keep` (N, H, W) bool, are sampled on their grid.
    """
    size = features.shape[-2:]
    classes = F.interpolate(torch.where(keep, labels, -1)[:, None].float(), size=size).long().flatten()
    chosen = []
    for name in classes[classes >= 0].unique():
        own = (classes == name).nonzero()[:, 0]
        chosen.append(own[torch.randperm(len(own), device=own.device)[:max_count]])
    indices = torch.cat(chosen) if chosen else classes.new_zeros(0)
    return flatten_maps(features)[indices], classes[indices]


def _start_around(position: int, side: int, size: int) -> int:
    """The start of a random interval of length `side` within `size` that contains `position`."""
    first, last = max(0, position - side + 1), min(position, size - side)
    return first + _random(last - first)


def _random(maximum: int) -> int:
    """A random integer from 0 to `maximum`, by torch's generator."""
    return int(torch.randint(maximum + 1, ()))
