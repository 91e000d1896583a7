"""Perlin noise, and the irregular patches that a threshold cuts out of it: shapes for synthetic defects.

All randomness is torch's global one, so a seeded run repeats.
"""

import torch
import torch.nn.functional as F
from torch import Tensor

FINEST = 5  # the lattice has at most 2^5 cells along a side
THRESHOLD = 0.5


def perlin_noise(size: int, cells: tuple[int, int]) -> Tensor:
    """Gradient noise (Perlin 1985) with a random gradient at each node of a lattice of `cells`: (size, size).

    Zero at the nodes, about -1 to 1 (scaled by the square root of 2).
    """
    rows, columns = (torch.arange(size) * (n / size) for n in cells)
    angle = 2 * torch.pi * torch.rand(cells[0] + 1, cells[1] + 1)
    top, left = rows.long(), columns.long()
    dy, dx = (rows - top)[:, None], (columns - left)[None]

    def corner(below: int, right: int) -> Tensor:
        at = angle[(top + below)[:, None], (left + right)[None]]
        return at.cos() * (dx - right) + at.sin() * (dy - below)

    fade_y, fade_x = _fade(dy), _fade(dx)
    upper = torch.lerp(corner(0, 0), corner(0, 1), fade_x)
    lower = torch.lerp(corner(1, 0), corner(1, 1), fade_x)
    return 2**0.5 * torch.lerp(upper, lower, fade_y)


def perlin_mask(size: int) -> Tensor:
    """Random patches, as in DRAEM (Zavrtanik et al. 2021): (size, size) bool; now and then none at all.

    Cells of a random size along each axis, the noise turned by a random angle, cut off at 0.5.
    """
    finest = min(FINEST, size.bit_length() - 2)
    vertical, horizontal = (2 ** torch.randint(finest + 1, (2,))).tolist()
    turned = _turn(perlin_noise(size, (vertical, horizontal)), float(torch.rand(())) * torch.pi)
    return turned > THRESHOLD


def _fade(t: Tensor) -> Tensor:
    """Smooth step from 0 to 1 with no slope and no curvature at its ends."""
    return t * t * t * (t * (6 * t - 15) + 10)


def _turn(image: Tensor, angle: float) -> Tensor:
    """An (H, W) map turned about its middle by an angle in radians; zero comes in at the corners."""
    at = torch.tensor(angle)
    matrix = torch.stack([at.cos(), -at.sin(), at * 0, at.sin(), at.cos(), at * 0]).view(1, 2, 3)
    grid = F.affine_grid(matrix, [1, 1, *image.shape], align_corners=False)
    return F.grid_sample(image[None, None], grid, align_corners=False)[0, 0]
