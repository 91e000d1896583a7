"""Small pieces for methods on vision transformers."""

import re

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from blemish.errors import OptionError


def check_side(name: str, side: int) -> None:
    """Raises OptionError where the side of the input is no multiple of the transformer's patches."""
    found = re.search(r"patch(\d+)", name)
    if found is None:
        raise OptionError(f"'{name}' is no vision transformer; choose one such as vit_small_patch14_dinov2")
    patch = int(found.group(1))
    if side % patch:
        near = max(1, round(side / patch)) * patch
        raise OptionError(f"image_size={side} must be a multiple of {patch}, the patch size of '{name}'; try {near}")


class LinearAttention(nn.Module):
    """Attention without softmax (Katharopoulos et al. 2020): it spreads, and cannot single out one place to copy."""

    def __init__(self, dimensions: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.qkv = nn.Linear(dimensions, 3 * dimensions)
        self.out = nn.Linear(dimensions, dimensions)

    def forward(self, x: Tensor) -> Tensor:
        """(N, P, D) to (N, P, D)."""
        places, dimensions = x.shape[1:]
        parts = self.qkv(x).reshape(-1, places, 3, self.heads, dimensions // self.heads).permute(2, 0, 3, 1, 4)
        query, key, value = F.elu(parts[0]) + 1, F.elu(parts[1]) + 1, parts[2]  # (N, heads, P, d)
        weights = query @ key.sum(dim=2, keepdim=True).transpose(2, 3)  # (N, heads, P, 1)
        mixed = query @ (key.transpose(2, 3) @ value) / weights
        return self.out(mixed.transpose(1, 2).reshape(-1, places, dimensions))


class DecoderBlock(nn.Module):
    """A transformer block, normalised before each part, with linear attention."""

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


def loose_cosine_loss(target: Tensor, rebuilt: Tensor, easy_share: float, easy_weight: float = 0.1) -> Tensor:
    """Cosine distance of whole (N, C, h, w) maps, in which the best rebuilt places pull `easy_weight` as much.

    Guo et al. 2025 ("loose loss"): places that are rebuilt well already are not to be rebuilt ever better.
    """
    distance = 1 - F.cosine_similarity(target, rebuilt.detach(), dim=1)
    threshold = torch.quantile(distance.flatten(), easy_share)
    easy = (distance < threshold)[:, None]
    rebuilt = torch.where(easy, easy_weight * rebuilt + (1 - easy_weight) * rebuilt.detach(), rebuilt)
    return (1 - F.cosine_similarity(target.flatten(1), rebuilt.flatten(1), dim=1)).mean()
