"""Ways to spoil good images for networks that learn to restore them.

All take (N, C, H, W) float32 and draw from torch's global randomness.
"""

import torch
import torch.nn.functional as F
from torch import Tensor


def coarse_noise(images: Tensor, cells: int, deviation: float) -> Tensor:
    """Images with coarse Gaussian noise added (Kascenas et al. 2022); may leave [0, 1].

    Drawn on a grid of `cells` along a side for each image and channel, of a grey image for all channels alike, enlarged
    bilinearly, shifted round the border by a random distance.
    """
    count, channels, height, width = images.shape
    noise = deviation * as_grey_as(torch.randn(count, channels, cells, cells, device=images.device), images)
    noise = F.interpolate(noise, size=(height, width), mode="bilinear", align_corners=True)
    shift = (int(torch.randint(height, ())), int(torch.randint(width, ())))
    return images + noise.roll(shift, dims=(2, 3))


def as_grey_as(pictures: Tensor, images: Tensor) -> Tensor:
    """Pictures (N, C, h, w), without colour where the image (N, C, H, W) beside them has none.

    On a grey product colour alone would give every synthetic defect away, and nothing else be learnt.
    """
    grey = (images.amax(dim=1) == images.amin(dim=1)).flatten(1).all(dim=1)
    return torch.where(grey[:, None, None, None], pictures[:, :1], pictures)


def disjoint_masks(height: int, width: int, cell: int, count: int) -> Tensor:
    """Squares of `cell` px dealt at random to `count` masks (RIAD, Zavrtanik et al. 2021): (count, height, width) bool.

    Each pixel is in just one of the masks, and the masks have as many squares each, but for one.
    """
    rows, columns = -(-height // cell), -(-width // cell)
    dealt = (torch.randperm(rows * columns) % count).view(rows, columns)
    dealt = dealt.repeat_interleave(cell, dim=0).repeat_interleave(cell, dim=1)[:height, :width]
    return torch.stack([dealt == number for number in range(count)])
