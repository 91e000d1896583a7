"""Corruptions of good images for networks that learn to restore them.

All take (N, C, H, W) float32 and use torch's global random generator.
"""

import torch
import torch.nn.functional as F
from torch import Tensor


def coarse_noise(images: Tensor, cells: int, deviation: float) -> Tensor:
    """Images with coarse Gaussian noise added (Kascenas et al. 2022); may leave [0, 1].

    Sampled on a grid of `cells` along a side for each image and channel (a grey image: once for all channels), enlarged
    bilinearly, shifted round the border by a random distance.
    """
    count, channels, height, width = images.shape
    noise = deviation * match_grey(torch.randn(count, channels, cells, cells, device=images.device), images)
    noise = F.interpolate(noise, size=(height, width), mode="bilinear", align_corners=True)
    shift = (int(torch.randint(height, ())), int(torch.randint(width, ())))
    return images + noise.roll(shift, dims=(2, 3))


def match_grey(pictures: Tensor, images: Tensor) -> Tensor:
    """Pictures (N, C, h, w), made grey where the corresponding image (N, C, H, W) is grey.

    On a grey product colour alone would give every synthetic defect away, and the network would learn nothing else.
    """
    grey = (images.amax(dim=1) == images.amin(dim=1)).flatten(1).all(dim=1)
    return torch.where(grey[:, None, None, None], pictures[:, :1], pictures)


def disjoint_masks(height: int, width: int, cell: int, count: int) -> Tensor:
    """Squares of `cell` px distributed at random over `count` masks (RIAD, Zavrtanik et al. 2021).

    Returns (count, height, width) bool.

    Each pixel is in exactly one of the masks; the masks' numbers of squares differ by one at most.
    """
    rows, columns = -(-height // cell), -(-width // cell)
    owner = (torch.randperm(rows * columns) % count).view(rows, columns)
    owner = owner.repeat_interleave(cell, dim=0).repeat_interleave(cell, dim=1)[:height, :width]
    return torch.stack([owner == number for number in range(count)])
