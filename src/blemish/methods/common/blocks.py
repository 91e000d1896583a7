"""Network building blocks that several methods share; all of them export to ONNX."""

import itertools
import math
from collections.abc import Callable, Iterator, Sequence
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from blemish.errors import OptionError
from blemish.methods.common.feature_cache import FeatureCache

PaddingMode = Literal["zeros", "reflect"]


class GaussianBlur(nn.Module):
    """Gaussian smoothing of (N, H, W) maps, separable, mirrored at the border.

    A map smaller than the kernel cannot be mirrored; its border values are repeated instead.
    """

    kernel: Tensor

    def __init__(self, sigma: float) -> None:
        super().__init__()
        self.radius = int(4 * sigma + 0.5)
        offsets = torch.arange(-self.radius, self.radius + 1, dtype=torch.float32)
        kernel = torch.exp(-0.5 * (offsets / max(sigma, 1e-6)) ** 2)
        self.register_buffer("kernel", kernel / kernel.sum(), persistent=False)

    def forward(self, maps: Tensor) -> Tensor:
        if self.radius == 0:
            return maps
        mirrored = self.radius < min(int(maps.shape[-2]), int(maps.shape[-1]))
        x = F.pad(maps[:, None], (self.radius,) * 4, mode="reflect" if mirrored else "replicate")
        x = F.conv2d(x, self.kernel.view(1, 1, 1, -1))
        return F.conv2d(x, self.kernel.view(1, 1, -1, 1))[:, 0]


def patch_features(maps: Sequence[Tensor], neighbourhood: int = 3) -> Tensor:
    """Locally aware patch features (Roth et al. 2022): (N, C, h, w) at the size of the first map.

    Every map is averaged over a neighbourhood around each position; the coarser ones are upsampled to the first.
    """
    pooled = [F.avg_pool2d(m, neighbourhood, stride=1, padding=neighbourhood // 2) for m in maps]
    size = (pooled[0].shape[-2], pooled[0].shape[-1])
    upsampled = [pooled[0], *(F.interpolate(m, size=size, mode="bilinear", align_corners=False) for m in pooled[1:])]
    return torch.cat(upsampled, dim=1)


def flatten_maps(features: Tensor) -> Tensor:
    """Feature maps (N, C, h, w) to vectors (N * h * w, C)."""
    return features.permute(0, 2, 3, 1).flatten(0, 2)


def enlarge(maps: Tensor, size: Sequence[int]) -> Tensor:
    """Bilinear upsampling of (N, h, w) maps to (N, H, W)."""
    return F.interpolate(maps[:, None], size=(int(size[0]), int(size[1])), mode="bilinear", align_corners=False)[:, 0]


def valid_patches(valid: Tensor, size: Sequence[int]) -> Tensor:
    """Cells of an (h, w) grid with at least half of their pixels valid: (N, H, W) bool to (N, h, w) bool."""
    return F.adaptive_avg_pool2d(valid[:, None].float(), (int(size[0]), int(size[1])))[:, 0] >= 0.5


def rotated_views(images: Tensor, valid: Tensor, turns: int) -> Iterator[tuple[Tensor, Tensor]]:
    """Images (N, C, H, W) with their valid pixels (N, H, W), rotated by right angles: 1, 2 or 4 views."""
    for turn in range(0, 4, 4 // turns):
        yield torch.rot90(images, turn, (2, 3)), torch.rot90(valid, turn, (1, 2))


class FrozenNetwork(nn.Module):
    """A pretrained network whose parameters and BatchNorm statistics stay fixed, whatever mode its owner is in.

    Gradients end at it, which saves memory, unless `passes_gradients` is set to explain the network's output. With a
    `cache`, the features of images with numbers (N,) are computed once.
    """

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.passes_gradients = False
        self.cache: FeatureCache | None = None
        self.network = network.eval().requires_grad_(False)

    def train(self, mode: bool = True) -> "FrozenNetwork":
        return super().train(False)

    def forward(self, x: Tensor, numbers: Tensor | None = None) -> list[Tensor]:
        with torch.set_grad_enabled(self.passes_gradients and torch.is_grad_enabled()):
            if self.cache is not None and numbers is not None:
                return self.cache.compute(self.network, x, numbers)
            return self.network(x)


def sum_maps(maps: Sequence[Tensor], size: Sequence[int]) -> Tensor:
    """Sum of (N, h, w) maps of several scales, each upsampled to the size: (N, H, W)."""
    return torch.stack([enlarge(m, size) for m in maps]).sum(dim=0)


def conv_block(
    inputs: int, outputs: int, kernel: int = 3, stride: int = 1, padding: PaddingMode = "zeros"
) -> nn.Sequential:
    """Convolution, BatchNorm, ReLU, with padding that keeps the size for stride 1."""
    convolution = nn.Conv2d(inputs, outputs, kernel, stride, kernel // 2, bias=False, padding_mode=padding)
    return nn.Sequential(convolution, nn.BatchNorm2d(outputs), nn.ReLU())


def halving_conv(inputs: int, outputs: int, bias: bool = True) -> nn.Conv2d:
    """A 4 x 4 convolution of stride 2 that mirrors the image at its border.

    Zeros around an image look like an edge, and what is reconstructed beside them is worst there for good images too.
    """
    return nn.Conv2d(inputs, outputs, 4, 2, 1, bias=bias, padding_mode="reflect")


class DoublingConv(nn.ConvTranspose2d):
    """A transposed 4 x 4 convolution of stride 2 that mirrors its input at the border; the size is doubled.

    A plain one adds up fewer products in the outermost row and column, as if there were zeros beyond.
    """

    def __init__(self, inputs: int, outputs: int, bias: bool = True) -> None:
        super().__init__(inputs, outputs, 4, 2, padding=3, bias=bias)  # 1, and 2 of the mirrored row

    def forward(self, x: Tensor, output_size: list[int] | None = None) -> Tensor:
        return super().forward(F.pad(x, (1, 1, 1, 1), mode="reflect"), output_size)


def grid_shape(size: int, stride: int) -> tuple[int, int]:
    """Rows and columns of a grid of that stride on a square image; raises OptionError where it has no cell."""
    if stride > size:
        raise OptionError(f"grid_stride={stride} is larger than image_size={size}")
    return (size // stride,) * 2


def to_grid(maps: Tensor, grid: tuple[int, int]) -> Tensor:
    """Resample a feature map to the grid: coarse maps by nearest neighbour as in the paper, fine ones bilinearly."""
    mode = "bilinear" if maps.shape[-1] > grid[1] else "nearest"
    return F.interpolate(maps, size=grid, mode=mode)


def mean_filter(maps: Tensor, side: int) -> Tensor:
    """Mean of (N, H, W) maps over a square of odd side around each pixel, with border values repeated."""
    padded = F.pad(maps[:, None], (side // 2,) * 4, mode="replicate")
    return F.avg_pool2d(padded, side, stride=1)[:, 0]


def count_halvings(size: int, coarsest: int = 4) -> int:
    """The number of halvings of a side to `coarsest` px; raises OptionError where that leaves a remainder."""
    times = (size // coarsest).bit_length() - 1
    if times < 1 or size != coarsest * 2**times:
        raise OptionError(f"a side of {size} px must be {coarsest} px times a power of two, such as {16 * coarsest}")
    return times


NormFactory = Callable[[int], nn.Module]


def dcgan_encoder(
    channels: int, size: int, width: int, outputs: int, norm: NormFactory = nn.BatchNorm2d
) -> nn.Sequential:
    """The discriminator of DCGAN (Radford et al. 2016): (N, C, size, size) to (N, outputs, 1, 1).

    Convolutions of stride 2, the width doubled at each up to eight times, then one over the remaining 4 x 4 map. The
    border is mirrored, where DCGAN has zeros.
    """
    widths = [width * 2 ** min(i, 3) for i in range(count_halvings(size))]
    layers: list[nn.Module] = [halving_conv(channels, widths[0]), nn.LeakyReLU(0.2)]
    for before, after in itertools.pairwise(widths):
        layers += [halving_conv(before, after, bias=False), norm(after), nn.LeakyReLU(0.2)]
    return nn.Sequential(*layers, nn.Conv2d(widths[-1], outputs, 4))


def dcgan_decoder(
    inputs: int, channels: int, size: int, width: int, norm: NormFactory = nn.BatchNorm2d
) -> nn.Sequential:
    """The generator of DCGAN, mirror of `dcgan_encoder`: (N, inputs, 1, 1) to images (N, C, size, size) in [0, 1]."""
    widths = [width * 2 ** min(i, 3) for i in range(count_halvings(size))][::-1]
    layers: list[nn.Module] = [nn.ConvTranspose2d(inputs, widths[0], 4, bias=False), norm(widths[0]), nn.ReLU()]
    for before, after in itertools.pairwise(widths):
        layers += [DoublingConv(before, after, bias=False), norm(after), nn.ReLU()]
    return nn.Sequential(*layers, DoublingConv(widths[-1], channels), nn.Sigmoid())


class PlainUNet(nn.Module):
    """U-Net without a pretrained encoder (Ronneberger et al. 2015): (N, C, H, W) to (N, outputs, H, W).

    Sides are a multiple of 2^levels: `levels` halvings, two convolutions at each size, the width doubled at each.
    Without `skips` it is a plain autoencoder whose coarsest map is the bottleneck.
    """

    def __init__(
        self,
        channels: int,
        outputs: int,
        width: int,
        levels: int = 4,
        skips: bool = True,
        padding: PaddingMode = "zeros",
    ) -> None:
        super().__init__()
        widths = [width * 2**level for level in range(levels + 1)]
        self.skips = skips
        self.first = _double_conv(channels, width, padding)
        self.down = nn.ModuleList(_double_conv(a, b, padding) for a, b in itertools.pairwise(widths))
        self.up = nn.ModuleList(nn.ConvTranspose2d(b, a, 2, 2) for a, b in itertools.pairwise(widths))
        self.joined = nn.ModuleList(_double_conv((2 if skips else 1) * a, a, padding) for a in widths[:-1])
        self.last = nn.Conv2d(width, outputs, 1)

    def forward(self, x: Tensor) -> Tensor:
        maps = [self.first(x)]
        for down in self.down:
            maps.append(down(F.max_pool2d(maps[-1], 2)))
        x = maps.pop()
        for up, joined, skipped in zip(self.up[::-1], self.joined[::-1], maps[::-1], strict=True):
            x = up(x)
            x = joined(torch.cat([x, skipped], dim=1) if self.skips else x)
        return self.last(x)


def _double_conv(inputs: int, outputs: int, padding: PaddingMode) -> nn.Sequential:
    return nn.Sequential(conv_block(inputs, outputs, padding=padding), conv_block(outputs, outputs, padding=padding))


def check_multiple(size: int, step: int) -> None:
    """Raise OptionError where the image size is not a multiple of the network's largest stride."""
    if size % step:
        raise OptionError(f"image_size={size} must be a multiple of {step}")


class PatchGrid:
    """Half overlapping square patches of a `side` that cover an image of a `size`; a side of 0 is the whole image."""

    def __init__(self, size: int, side: int) -> None:
        if side > size:
            raise OptionError(f"patch={side} is larger than image_size={size}")
        self.size, self.side = size, side or size
        count = 1 if self.side == size else math.ceil((size - self.side) / (self.side / 2)) + 1
        starts = [round(i * (size - self.side) / max(count - 1, 1)) for i in range(count)]
        self.corners = list(itertools.product(starts, starts))

    def split(self, images: Tensor) -> Tensor:
        """(N, C, size, size) to (N * P, C, side, side), an image's patches one after another."""
        cut = [images[:, :, y : y + self.side, x : x + self.side] for y, x in self.corners]
        return torch.stack(cut, dim=1).flatten(0, 1)

    def join(self, maps: Tensor) -> Tensor:
        """(N * P, side, side) to (N, size, size), averaged where patches overlap."""
        total, counts = torch.zeros((), device=maps.device), torch.zeros(self.size, self.size, device=maps.device)
        rest = self.size - self.side
        for (y, x), patch in zip(self.corners, maps.unflatten(0, (-1, len(self.corners))).unbind(dim=1), strict=True):
            total = total + F.pad(patch, (x, rest - x, y, rest - y))
            counts[y : y + self.side, x : x + self.side] += 1
        return total / counts

    def random(self, *tensors: Tensor) -> list[Tensor]:
        """A random patch of each image, at the same position in all of the (N, ..., size, size) tensors."""
        corners = torch.randint(self.size - self.side + 1, (len(tensors[0]), 2)).tolist()
        cuts = [(slice(y, y + self.side), slice(x, x + self.side)) for y, x in corners]
        return [torch.stack([one[..., *cut] for one, cut in zip(t, cuts, strict=True)]) for t in tensors]


def image_mean(images: Tensor) -> Tensor:
    """Mean of each image, axis by axis: (N, C, H, W) to (N, 1, 1, 1).

    ONNX Runtime sums a mean sequentially; over a whole image at once its rounding error would be visible in the score.
    """
    for axis in (3, 2, 1):
        images = images.mean(dim=axis, keepdim=True)
    return images
