"""Auxiliary images, unrelated to the product: from a folder, or random textures; and synthetic defects made of them.

All randomness is torch's global generator, so a seeded run is reproducible.
"""

import math
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor

from blemish.dataset.image_files import list_images
from blemish.errors import DataError
from blemish.imaging.prepare import prepare
from blemish.imaging.read import read_image
from blemish.methods.common.corruption import match_grey

LEAVES = 48  # overlapping shapes in a dead-leaves image
POOL_SIZE = 128  # textures generated at first; later ones are these rotated, mirrored and with swapped colour channels


class AuxiliaryImages:
    """Random square crops of the images in a folder; without a folder, random textures."""

    def __init__(self, folder: str, channels: int, size: int) -> None:
        self.channels, self.size = channels, size
        self.pool: list[Tensor] = []
        self.paths: list[Path] = []
        if folder:
            self.paths = list_images(Path(folder), deep=True) if Path(folder).is_dir() else []
            if not self.paths:
                raise DataError(f"no images in '{folder}'; give a folder of images, or none for random textures")

    def sample(self, count: int) -> Tensor:
        """(count, channels, size, size) float32 in [0, 1]."""
        if not self.paths:
            return torch.stack([self._texture() for _ in range(count)])
        chosen = torch.randint(len(self.paths), (count,)).tolist()
        return torch.stack([self._crop(self.paths[i]) for i in chosen])

    def _texture(self) -> Tensor:
        if len(self.pool) < POOL_SIZE:
            self.pool.append(textures(1, self.channels, self.size)[0])
            return self.pool[-1]
        texture = self.pool[int(torch.randint(POOL_SIZE, ()))][torch.randperm(self.channels)]
        texture = torch.rot90(texture, int(torch.randint(4, ())), (1, 2))
        return texture.flip(2) if torch.rand(()) < 0.5 else texture

    def _crop(self, path: Path) -> Tensor:
        image = read_image(path)
        side = min(image.shape[:2])
        y, x = (int(torch.randint(length - side + 1, ())) for length in image.shape[:2])
        square = image[y : y + side, x : x + side]
        return torch.from_numpy(prepare(square, self.channels, self.size, self.size, "stretch"))


def textures(count: int, channels: int, size: int) -> Tensor:
    """Dead-leaves images, whose edges and statistics resemble those of photographs (Lee, Mumford & Huang 2001).

    Shapes of all sizes, each with a colour and a fractal texture of its own, occlude one another. (count, channels,
    size, size) float32 in [0, 1].
    """
    return torch.stack([_dead_leaves(channels, size) for _ in range(count)])


def _dead_leaves(channels: int, size: int) -> Tensor:
    fills = coloured_noise(6, channels, size)
    image = fills[0].clone()
    for _ in range(LEAVES):
        radius = size * 0.03 * float(torch.rand(()).clamp(min=0.04)) ** -0.75  # few large, many small
        cy, cx, angle, flat, kind, number = torch.rand(6).tolist()
        top, bottom = _span(cy * size, 1.5 * radius, size)
        left, right = _span(cx * size, 1.5 * radius, size)
        dy = torch.arange(top, bottom)[:, None] - cy * size
        dx = torch.arange(left, right)[None] - cx * size
        c, s = math.cos(6.2832 * angle), math.sin(6.2832 * angle)
        u, v = (c * dx + s * dy).abs(), (c * dy - s * dx).abs() / (0.15 + 0.85 * flat)
        inside = torch.maximum(u, v) < radius if kind < 0.5 else u * u + v * v < radius * radius
        fill = fills[int(number * len(fills)), :, top:bottom, left:right]
        leaf = torch.rand(channels, 1, 1) + 1.2 * float(torch.rand(())) * (fill - 0.5)
        image[:, top:bottom, left:right] = torch.where(inside, leaf, image[:, top:bottom, left:right])
    return image.clamp(0, 1)


def _span(middle: float, reach: float, size: int) -> tuple[int, int]:
    """First and last pixel plus one that a shape covers along one axis of the image."""
    return max(0, int(middle - reach)), min(size, int(middle + reach) + 2)


def coloured_noise(count: int, channels: int, size: int) -> Tensor:
    """Fractal noise between two random colours: (count, channels, size, size) in [0, 1]."""
    noise = fractal_noise(count, size)[:, None]
    first, second = torch.rand(2, count, channels, 1, 1)
    return first + (second - first) * noise


def fractal_noise(count: int, size: int) -> Tensor:
    """Smooth noise of several octaves with a random roughness and direction: (count, size, size), from 0 to 1.

    Unlike `blemish.synthesis.noise.fractal_noise` it is directional, and uses torch's global generator.
    """
    total = torch.zeros(count, 1, size, size)
    roughness = 0.3 + 0.6 * torch.rand(count, 1, 1, 1)
    stretch = 2 ** int(torch.randint(3, ()))  # stripes, along one axis or the other
    cells, octave = 2, 0
    while cells <= size // 2:
        shape = (cells, min(size, cells * stretch)) if torch.rand(()) < 0.5 else (min(size, cells * stretch), cells)
        grid = torch.rand(count, 1, *shape)
        total += roughness**octave * F.interpolate(grid, size=(size, size), mode="bicubic", align_corners=False)
        cells, octave = cells * 2, octave + 1
    total = total[:, 0]
    low, high = total.amin(dim=(1, 2), keepdim=True), total.amax(dim=(1, 2), keepdim=True)
    return (total - low) / (high - low).clamp(min=1e-6)


def confetti(images: Tensor, largest: float = 0.15) -> tuple[Tensor, Tensor]:
    """Images with random specks and strips on them, and their masks (N, H, W) bool.

    Each speck is a rotated rectangle of one colour or of a texture, up to `largest` of the image's side long; one to
    eight of them per image (after the confetti noise of Liznerski et al. 2021). On grey images they are grey.
    """
    count, channels, height, width = images.shape
    y, x = torch.meshgrid(torch.arange(height), torch.arange(width), indexing="ij")
    masks = torch.zeros(count, height, width, dtype=torch.bool)
    changed = images.clone()
    for i in range(count):
        for _ in range(int(torch.randint(1, 9, ()))):
            cy, cx, angle, a, b, opacity = torch.rand(6).tolist()
            turn = torch.tensor(angle * 6.2832)
            dy, dx = y - cy * height, x - cx * width
            long, short = (max(1.5, largest * width * r * r) for r in (max(a, b), min(a, b)))
            along, across = turn.cos() * dx + turn.sin() * dy, turn.cos() * dy - turn.sin() * dx
            inside = ((along.abs() < long) & (across.abs() < short)).to(images.device)
            plain = torch.rand(channels, 1, 1).expand(channels, height, width)
            paint = plain if torch.rand(()) < 0.5 else coloured_noise(1, channels, height)[0]
            if paint.shape[-2:] != (height, width):
                paint = F.interpolate(paint[None], size=(height, width))[0]
            paint = match_grey(paint[None].to(images), images[i : i + 1])[0]
            strength = 0.3 + 0.7 * opacity
            mixed = (1 - strength) * changed[i] + strength * paint
            changed[i] = torch.where(inside, mixed, changed[i])
            masks[i] |= inside.cpu()
    return changed, masks.to(images.device)
