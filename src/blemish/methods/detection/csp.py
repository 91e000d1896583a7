"""A small convolutional network to be trained from scratch: CSPDarknet (Wang et al. 2020), as in YOLOX."""

import itertools

import torch
from torch import Tensor, nn

from blemish.methods.detection.pyramid import CSPBlock, conv


class SpatialPyramidPooling(nn.Module):
    """The map and its maxima over windows of 5, 9 and 13, joined by a convolution (He et al. 2015)."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.enter, self.join = conv(channels, channels // 2, 1), conv(2 * channels, channels, 1)
        self.pool = nn.MaxPool2d(5, stride=1, padding=2)

    def forward(self, x: Tensor) -> Tensor:
        maps = [self.enter(x)]
        for _ in range(3):
            maps.append(self.pool(maps[-1]))
        joined: Tensor = self.join(torch.cat(maps, dim=1))
        return joined


class CSPDarknet(nn.Module):
    """Images to the maps at strides 8, 16 and 32; `base` channels at stride 2, twice as many at each stride after."""

    def __init__(self, inputs: int, base: int, depth: int) -> None:
        super().__init__()
        self.strides = [8, 16, 32]
        self.channels = [base * 4, base * 8, base * 16]
        self.stem = conv(inputs, base, stride=2)
        depths = (depth, 3 * depth, 3 * depth, depth)
        widths = itertools.pairwise(base * 2**i for i in range(5))
        self.stages = nn.ModuleList(
            nn.Sequential(conv(before, after, stride=2), CSPBlock(after, after, blocks))
            for (before, after), blocks in zip(widths, depths, strict=True)
        )
        self.pooling = SpatialPyramidPooling(self.channels[-1])

    def forward(self, images: Tensor) -> list[Tensor]:
        maps = [self.stem(images)]
        for stage in self.stages:
            maps.append(stage(maps[-1]))
        return [*maps[2:4], self.pooling(maps[4])]
