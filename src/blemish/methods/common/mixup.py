"""Images mixed of two, against learning few images by heart: mixup and CutMix, within a batch.

Both return the images (N, C, H, W), the places (N,) of the other ones, and the share that each keeps of itself, one for
the batch as in the papers' own code.
"""

from typing import Any

import torch
from torch import Tensor

Mixed = tuple[Tensor, Tensor, float]
PIXELWISE = ("image", "mask", "mask_labels", "valid")  # what a batch says of each pixel


def mixup(images: Tensor, alpha: float) -> Mixed:
    """Zhang et al. 2018, "mixup: Beyond Empirical Risk Minimization", ICLR: each image blended with another."""
    partner, share = torch.randperm(len(images), device=images.device), _beta(alpha)
    return share * images + (1 - share) * images[partner], partner, share


def cutmix(images: Tensor, alpha: float) -> Mixed:
    """Yun et al. 2019, "CutMix", ICCV: a rectangle of each image comes from another."""
    partner = torch.randperm(len(images), device=images.device)
    rows, columns, share = _rectangle(images, alpha)
    return _with_rectangle(images, partner, rows, columns), partner, share


def cutmix_pixels(batch: dict[str, Any], alpha: float) -> tuple[dict[str, Any], Tensor, float]:
    """The same where truth is by pixels: the mask's rectangle comes from the other image too (French et al. 2020).

    Where an image's mask is not known its pixels do not count, there as in the other image.
    """
    images = batch["image"]
    partner = torch.randperm(len(images), device=images.device)
    rows, columns, share = _rectangle(images, alpha)
    batch = {**batch, "valid": batch["valid"] & batch["has_mask"][:, None, None]}
    batch |= {key: _with_rectangle(batch[key], partner, rows, columns) for key in PIXELWISE if key in batch}
    return {**batch, "has_mask": batch["has_mask"] | batch["has_mask"][partner]}, partner, share


def _rectangle(images: Tensor, alpha: float) -> tuple[slice, slice, float]:
    """Its rows and columns, and the share of an image that lies outside it."""
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
