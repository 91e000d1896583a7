"""Against imbalance: how often each image is drawn, and where squares are cut from it."""

from collections import Counter

import torch
import torch.nn.functional as F
from torch import Tensor

from blemish.dataset.sample import Dataset
from blemish.methods.base import Item

MAPS = ("image", "valid", "mask", "mask_labels", "template", "box_masks")


def balanced_weights(dataset: Dataset, defect_share: float, class_balance: float) -> list[float]:
    """One weight an image, so that images with a defect make up `defect_share` of those drawn.

    Among them an image of a class with n images weighs n^-class_balance. Where one side is missing, the other is all.
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
    """A random square of an item; with probability `on_defect` one that holds a pixel of a defect, if there is one."""
    height, width = item["image"].shape[-2:]
    top, left = _random(height - side), _random(width - side)
    if item["mask"].any() and float(torch.rand(())) < on_defect:
        places = item["mask"].nonzero()
        y, x = places[_random(len(places) - 1)].tolist()
        top, left = _around(y, side, height), _around(x, side, width)
    cut = {key: item[key][..., top : top + side, left : left + side].contiguous() for key in MAPS if key in item}
    return {**item, **cut}


def sample_pixels(features: Tensor, labels: Tensor, keep: Tensor, most: int) -> tuple[Tensor, Tensor]:
    """Up to `most` random places of each class: their features (M, E) and classes (M,), 0 for no defect.

    Features are (N, E, h, w), labels (N, H, W) int64 and keep (N, H, W) bool, which are seen on the features' grid.
    """
    size = features.shape[-2:]
    seen = F.interpolate(torch.where(keep, labels, -1)[:, None].float(), size=size).long().flatten()
    chosen = []
    for name in seen[seen >= 0].unique():
        own = (seen == name).nonzero()[:, 0]
        chosen.append(own[torch.randperm(len(own), device=own.device)[:most]])
    places = torch.cat(chosen) if chosen else seen.new_zeros(0)
    return features.permute(0, 2, 3, 1).flatten(0, 2)[places], seen[places]


def _around(place: int, side: int, size: int) -> int:
    """The beginning of a random stretch of `side` within `size` that holds `place`."""
    first, last = max(0, place - side + 1), min(place, size - side)
    return first + _random(last - first)


def _random(most: int) -> int:
    """A whole number from 0 to `most`, by torch's generator."""
    return int(torch.randint(most + 1, ()))
