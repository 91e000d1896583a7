"""Brightness and colour of small squares, to which features that were learned for objects pay little heed."""

import torch
import torch.nn.functional as F
from torch import Tensor


def local_colour(images: Tensor, grid: tuple[int, int]) -> Tensor:
    """Means and standard deviations of the squares of a grid: (N, C, H, W) to (N, 2, h, w) of grey, (N, 2 C + 2, h, w).

    They are of the brightness (the mean of the channels) less the image's own, since light that changes for a whole
    image is no defect, and of each channel less the brightness.
    """
    brightness = images.mean(dim=1, keepdim=True)
    own = brightness - brightness.mean(dim=(2, 3), keepdim=True)
    values = own if images.shape[1] == 1 else torch.cat([own, images - brightness], dim=1)
    squares = _squares(values, grid)
    means = squares.mean(dim=(3, 5), keepdim=True)
    deviations = (squares - means).square().mean(dim=(3, 5)).sqrt()
    return torch.cat([means[:, :, :, 0, :, 0], deviations], dim=1)


def _squares(values: Tensor, grid: tuple[int, int]) -> Tensor:
    """(N, C, H, W) as (N, C, h, side, w, side); beyond the image its border goes on."""
    (rows, columns), (height, width) = grid, (values.shape[-2], values.shape[-1])
    side_y, side_x = -(-height // rows), -(-width // columns)
    more = (0, columns * side_x - width, 0, rows * side_y - height)
    padded = F.pad(values, more, mode="replicate") if any(more) else values
    return padded.reshape(-1, values.shape[1], rows, side_y, columns, side_x)  # for a graph of any batch size
