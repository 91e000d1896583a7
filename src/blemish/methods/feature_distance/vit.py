"""Small pieces for methods on vision transformers."""

import re

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from blemish.errors import OptionError
from blemish.methods.common.losses import whole_map_distance


def check_side(name: str, side: int) -> None:
    """Raises OptionError where the input's side is not a multiple of the transformer's patch size."""
    match = re.search(r"patch(\d+)", name)
    if match is None:
        raise OptionError(f"'{name}' is not a vision transformer; choose one such as vit_small_patch14_dinov2")
    patch = int(match.group(1))
    if side % patch:
        near = max(1, round(side / patch)) * patch
        raise OptionError(f"image_size={side} must be a multiple of {patch}, the patch size of '{name}'; try {near}")


class LinearAttention(nn.Module):
    """Attention without softmax (Katharopoulos et al. 2020): it spreads, and cannot single out one location to copy."""

    def __init__(self, dimensions: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.qkv = nn.Linear(dimensions, 3 * dimensions)
        self.out = nn.Linear(dimensions, dimensions)

    def forward(self, x: Tensor) -> Tensor:
        """(N, P, D) to (N, P, D)."""
        patches, dimensions = x.shape[1:]
        qkv = self.qkv(x).reshape(-1, patches, 3, self.heads, dimensions // self.heads).permute(2, 0, 3, 1, 4)
        query, key, value = F.elu(qkv[0]) + 1, F.elu(qkv[1]) + 1, qkv[2]  # (N, heads, P, d)
        weights = query @ key.sum(dim=2, keepdim=True).transpose(2, 3)  # (N, heads, P, 1)
        mixed = query @ (key.transpose(2, 3) @ value) / weights
        return self.out(mixed.transpose(1, 2).reshape(-1, patches, dimensions))


class DecoderBlock(nn.Module):
    """A pre-norm transformer block with linear attention."""

    def __init__(self, dimensions: int, heads: int) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(dimensions)
        self.attention = LinearAttention(dimensions, heads)
        self.norm2 = nn.LayerNorm(dimensions)
        self.mlp = nn.Sequential(
            nn.Linear(dimensions, 4 * dimensions), nn.GELU(), nn.Linear(4 * dimensions, dimensions)
        )

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.attention(self.norm1(x))
        return x + self.mlp(self.norm2(x))


def loose_cosine_loss(target: Tensor, output: Tensor, easy_share: float, easy_weight: float = 0.1) -> Tensor:
    """Cosine distance of whole (N, C, h, w) maps, in which the best reconstructed locations weigh `easy_weight` as
    much.

    Guo et al. 2025 ("loose loss"): locations that are reconstructed well already should not be reconstructed ever
    better.
    """
    distance = 1 - F.cosine_similarity(target, output.detach(), dim=1)
    threshold = torch.quantile(distance.flatten(), easy_share)
    easy = (distance < threshold)[:, None]
    output = torch.where(easy, easy_weight * output + (1 - easy_weight) * output.detach(), output)
    return whole_map_distance(target, output)
