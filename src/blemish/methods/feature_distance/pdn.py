"""The small networks of EfficientAD: patch description networks with a receptive field of 33 px, and an autoencoder."""

from collections import OrderedDict

import torch
from torch import Tensor, nn

RECEPTIVE_FIELD = 33  # px that one element of a patch description network's map depends on


def pdn(size: str, channels: int, outputs: int, width: float = 1.0) -> nn.Sequential:
    """Patch description network S or M (Batzner et al. 2024, tables 6 and 7) without padding.

    `width` scales the inner channels. (N, channels, H, W) to (N, outputs, h, w), one vector for each 4 x 4 pixels.
    """
    a, b = (round(c * width) for c in ((128, 256) if size == "s" else (256, 512)))
    pool = nn.AvgPool2d(2, 2)
    if size == "s":
        return nn.Sequential(
            nn.Conv2d(channels, a, 4), nn.ReLU(), pool,
            nn.Conv2d(a, b, 4), nn.ReLU(), pool,
            nn.Conv2d(b, b, 3), nn.ReLU(),
            nn.Conv2d(b, outputs, 4),
        )  # fmt: skip
    return nn.Sequential(
        nn.Conv2d(channels, a, 4), nn.ReLU(), pool,
        nn.Conv2d(a, b, 4), nn.ReLU(), pool,
        nn.Conv2d(b, b, 1), nn.ReLU(),
        nn.Conv2d(b, b, 3), nn.ReLU(),
        nn.Conv2d(b, outputs, 4), nn.ReLU(),
        nn.Conv2d(outputs, outputs, 1),
    )  # fmt: skip


def pdn_size(side: int) -> int:
    """Side of the map that a patch description network makes of a square of that side."""
    return ((side - 3) // 2 - 3) // 2 - 5


def autoencoder(channels: int, outputs: int, side: int) -> nn.Sequential:
    """The paper's autoencoder (its tables 8 and 9) at any multiple of 32 px: an image to a map as large as the PDN's.

    A 64-channel bottleneck of one element; bilinear enlarging; dropout of 0.2 in the decoder.
    """
    layers: OrderedDict[str, nn.Module] = OrderedDict()
    widths = [channels, 32, 32, 64, 64, 64]
    for i in range(5):
        layers[f"down{i}"] = nn.Conv2d(widths[i], widths[i + 1], 4, 2, 1)
        layers[f"down{i}_act"] = nn.ReLU()
    layers["bottleneck"] = nn.Conv2d(64, 64, side // 32)
    sizes = [max(1, side // 64 - 1), side // 32, max(1, side // 16 - 1), side // 8, side // 4 - 1, side // 2 - 1]
    for i, size in enumerate(sizes):
        layers[f"up{i}_size"] = Enlarge(size)
        layers[f"up{i}"] = nn.Conv2d(64, 64, 4, 1, 2)
        layers[f"up{i}_act"] = nn.ReLU()
        layers[f"up{i}_drop"] = nn.Dropout(0.2)
    layers["last_size"] = Enlarge(pdn_size(side))
    layers["last"] = nn.Conv2d(64, 64, 3, 1, 1)
    layers["last_act"] = nn.ReLU()
    layers["out"] = nn.Conv2d(64, outputs, 3, 1, 1)
    return nn.Sequential(layers)


class Enlarge(nn.Module):
    """Bilinear to a square of a fixed side."""

    def __init__(self, side: int) -> None:
        super().__init__()
        self.side = side

    def forward(self, x: Tensor) -> Tensor:
        return torch.nn.functional.interpolate(x, size=(self.side, self.side), mode="bilinear", align_corners=False)
