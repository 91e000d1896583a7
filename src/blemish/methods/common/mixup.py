"""Mixup and CutMix within a batch, against overfitting on few images.

Both return the images (N, C, H, W), the indices (N,) of the partners, and the share that each image keeps of itself:
one for the whole batch, as in the papers' own code.
"""

import torch
from torch import Tensor

from blemish.methods.base import Batch

PIXEL_KEYS = ("image", "mask", "mask_labels", "valid")  # a batch's entries by pixel


def mixup(images: Tensor, alpha: float) -> tuple[Tensor, Tensor, float]:
    """Zhang et al. 2018, "mixup: Beyond Empirical Risk Minimization", ICLR: each image blended with another."""
    partner, share = torch.randperm(len(images), device=images.device), _beta(alpha)
    return share * images + (1 - share) * images[partner], partner, share


def cutmix(images: Tensor, alpha: float) -> tuple[Tensor, Tensor, float]:
    """Yun et al. 2019, "CutMix", ICCV: a rectangle of each image comes from another."""
    partner = torch.randperm(len(images), device=images.device)
    rows, columns, share = _rectangle(images, alpha)
    return _with_rectangle(images, partner, rows, columns), partner, share


def cutmix_pixels(batch: Batch, alpha: float) -> tuple[Batch, Tensor, float]:
    """CutMix of images with masks: the mask's rectangle comes from the other image too (French et al. 2020).

    Pixels of an image without a known mask stay invalid, in the other image as well.
    """
    images = batch["image"]
    partner = torch.randperm(len(images), device=images.device)
    rows, columns, share = _rectangle(images, alpha)
    batch = {**batch, "valid": batch["valid"] & batch["has_mask"][:, None, None]}
    batch |= {key: _with_rectangle(batch[key], partner, rows, columns) for key in PIXEL_KEYS if key in batch}
    return {**batch, "has_mask": batch["has_mask"] | batch["has_mask"][partner]}, partner, share


def _rectangle(images: Tensor, alpha: float) -> tuple[slice, slice, float]:
    """Its rows and columns, and the share of an image that is outside it."""
    height, width = images.shape[-2:]
    side = (1 - _beta(alpha)) ** 0.5
    y, x = (torch.rand(2) * torch.tensor([height, width])).tolist()
    rows = slice(max(0, round(y - side * height / 2)), min(height, round(y + side * height / 2)))
    columns = slice(max(0, round(x - side * width / 2)), min(width, round(x + side * width / 2)))
    cut = (rows.stop - rows.start) * (columns.stop - columns.start) / (height * width)
    return rows, columns, 1 - cut


def _with_rectangle(values: Tensor, partner: Tensor, rows: slice, columns: slice) -> Tensor:
    mixed = values.clone()
    mixed[..., rows, columns] = values[partner][..., rows, columns]
    return mixed


def _beta(alpha: float) -> float:
    return float(torch.distributions.Beta(alpha, alpha).sample())
