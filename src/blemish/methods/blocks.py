"""Small pieces of graph that several methods share; all of them export to ONNX."""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class GaussianBlur(nn.Module):
    """Gaussian smoothing of (N, H, W) maps, separable, mirrored at the border."""

    def __init__(self, sigma: float) -> None:
        super().__init__()
        self.radius = int(4 * sigma + 0.5)
        offsets = torch.arange(-self.radius, self.radius + 1, dtype=torch.float32)
        kernel = torch.exp(-0.5 * (offsets / max(sigma, 1e-6)) ** 2)
        self.register_buffer("kernel", kernel / kernel.sum(), persistent=False)

    def forward(self, maps: Tensor) -> Tensor:
        if self.radius == 0:
            return maps
        x = F.pad(maps[:, None], (self.radius,) * 4, mode="reflect")
        x = F.conv2d(x, self.kernel.view(1, 1, 1, -1))
        return F.conv2d(x, self.kernel.view(1, 1, -1, 1))[:, 0]


def patch_features(maps: Sequence[Tensor], neighbourhood: int = 3) -> Tensor:
    """Locally aware patch features (Roth et al. 2022): (N, C, h, w) at the size of the first map.

    Every map is averaged over a neighbourhood around each position; the coarser ones are enlarged to the first.
    """
    pooled = [F.avg_pool2d(m, neighbourhood, stride=1, padding=neighbourhood // 2) for m in maps]
    size = (pooled[0].shape[-2], pooled[0].shape[-1])
    enlarged = [pooled[0], *(F.interpolate(m, size=size, mode="bilinear", align_corners=False) for m in pooled[1:])]
    return torch.cat(enlarged, dim=1)


def as_vectors(features: Tensor) -> Tensor:
    """(N, C, h, w) to (N * h * w, C)."""
    return features.permute(0, 2, 3, 1).flatten(0, 2)


def enlarge(maps: Tensor, size: Sequence[int]) -> Tensor:
    """(N, h, w) maps to (N, H, W), bilinear."""
    return F.interpolate(maps[:, None], size=(int(size[0]), int(size[1])), mode="bilinear", align_corners=False)[:, 0]


def valid_patches(valid: Tensor, size: Sequence[int]) -> Tensor:
    """Which patches of an (h, w) grid lie at least half inside the valid pixels: (N, H, W) bool to (N, h, w) bool."""
    return F.adaptive_avg_pool2d(valid[:, None].float(), (int(size[0]), int(size[1])))[:, 0] >= 0.5


class Frozen(nn.Module):
    """A pretrained network that neither learns nor moves its BatchNorm statistics, whatever mode its owner is in."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network.eval().requires_grad_(False)

    def train(self, mode: bool = True) -> "Frozen":
        return super().train(False)

    def forward(self, x: Tensor) -> list[Tensor]:
        with torch.no_grad():
            return self.network(x)


def sum_of_maps(maps: Sequence[Tensor], size: Sequence[int]) -> Tensor:
    """(N, h, w) maps of several scales, each enlarged to the size and added: (N, H, W)."""
    return torch.stack([enlarge(m, size) for m in maps]).sum(dim=0)


def conv_block(inputs: int, outputs: int, kernel: int = 3, stride: int = 1) -> nn.Sequential:
    """Convolution, BatchNorm, ReLU; keeps the size but for the stride."""
    return nn.Sequential(
        nn.Conv2d(inputs, outputs, kernel, stride, kernel // 2, bias=False), nn.BatchNorm2d(outputs), nn.ReLU()
    )


def to_grid(maps: Tensor, grid: tuple[int, int]) -> Tensor:
    """Resample a feature map to the grid; the paper repeats coarse vectors, and halving bilinearly is averaging."""
    mode = "bilinear" if maps.shape[-1] > grid[1] else "nearest"
    return F.interpolate(maps, size=grid, mode=mode)
