"""Brightness and colour of small squares, to which features that were learned for objects pay little heed."""

import torch
import torch.nn.functional as F
from torch import Tensor

from blemish.methods.common.blocks import image_mean


def local_colour(images: Tensor, grid: tuple[int, int]) -> Tensor:
    """Means and standard deviations of the squares of a grid: (N, C, H, W) to (N, 2, h, w) of grey, (N, 2 C + 2, h, w).

    They are of the brightness (the mean of the channels) less the image's own, and of each channel less the brightness.
    So an offset of a whole image changes nothing; gain and colour temperature of the light do, as does a large bright
    or dark area.
    """
    brightness = images.mean(dim=1, keepdim=True)
    own = brightness - image_mean(images)
    values = own if images.shape[1] == 1 else torch.cat([own, images - brightness], dim=1)
    sides, values = _whole_squares(values, grid)
    means = F.avg_pool2d(values, sides)
    apart = values - F.interpolate(means, size=(int(values.shape[-2]), int(values.shape[-1])), mode="nearest")
    return torch.cat([means, F.avg_pool2d(apart.square(), sides).sqrt()], dim=1)


def _whole_squares(values: Tensor, grid: tuple[int, int]) -> tuple[tuple[int, int], Tensor]:
    """Sides of the squares, and the values with their border repeated until the squares are whole."""
    height, width = int(values.shape[-2]), int(values.shape[-1])
    sides = -(-height // int(grid[0])), -(-width // int(grid[1]))
    more = (0, int(grid[1]) * sides[1] - width, 0, int(grid[0]) * sides[0] - height)
    return sides, F.pad(values, more, mode="replicate") if any(more) else values
