"""Images mixed of two, against learning few images by heart: mixup and CutMix, within a batch.

Both return the images (N, C, H, W), the places (N,) of the other ones, and the share that each keeps of itself, one for
the batch as in the papers' own code.
"""

import torch
from torch import Tensor

Mixed = tuple[Tensor, Tensor, float]


def mixup(images: Tensor, alpha: float) -> Mixed:
    """Zhang et al. 2018, "mixup: Beyond Empirical Risk Minimization", ICLR: each image blended with another."""
    partner, share = torch.randperm(len(images), device=images.device), _beta(alpha)
    return share * images + (1 - share) * images[partner], partner, share


def cutmix(images: Tensor, alpha: float) -> Mixed:
    """Yun et al. 2019, "CutMix", ICCV: a rectangle of each image comes from another."""
    height, width = images.shape[-2:]
    partner, side = torch.randperm(len(images), device=images.device), (1 - _beta(alpha)) ** 0.5
    y, x = (torch.rand(2) * torch.tensor([height, width])).tolist()
    rows = slice(max(0, round(y - side * height / 2)), min(height, round(y + side * height / 2)))
    columns = slice(max(0, round(x - side * width / 2)), min(width, round(x + side * width / 2)))
    mixed = images.clone()
    mixed[:, :, rows, columns] = images[partner][:, :, rows, columns]
    cut = (rows.stop - rows.start) * (columns.stop - columns.start) / (height * width)
    return mixed, partner, 1 - cut


def _beta(alpha: float) -> float:
    return float(torch.distributions.Beta(alpha, alpha).sample())
