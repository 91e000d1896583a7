"""Feature maps for detectors: any timm network, then a neck that gives every level the same width."""

from collections import OrderedDict
from typing import Any, Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torchvision.ops import FeaturePyramidNetwork

from blemish.errors import OptionError
from blemish.methods.common.backbones import Backbone, freeze_batchnorm, freeze_stages, load_backbone
from blemish.methods.common.blocks import check_multiple

Neck = Literal["fpn", "pan", "single", "source"]
STRIDES = (8, 16, 32)  # of the backbone's maps that detectors use


def conv(inputs: int, outputs: int, kernel: int = 3, stride: int = 1, act: type[nn.Module] = nn.SiLU) -> nn.Sequential:
    """Convolution, BatchNorm and activation; keeps the size but for the stride."""
    return nn.Sequential(
        nn.Conv2d(inputs, outputs, kernel, stride, kernel // 2, bias=False), nn.BatchNorm2d(outputs), act(inplace=True)
    )


class FeaturePyramid(nn.Module):
    """Feature pyramid network (Lin et al. 2017), on torchvision's, with `extra` levels by strided convolution."""

    def __init__(self, channels: list[int], width: int, extra: int) -> None:
        super().__init__()
        self.merge = FeaturePyramidNetwork(channels, width, norm_layer=nn.BatchNorm2d)
        self.coarser = nn.ModuleList(conv(width, width, stride=2) for _ in range(extra))

    def forward(self, maps: list[Tensor]) -> list[Tensor]:
        levels = list(self.merge(OrderedDict((str(i), m) for i, m in enumerate(maps))).values())
        for layer in self.coarser:
            levels.append(layer(levels[-1]))
        return levels


class SourceMaps(nn.Module):
    """The backbone's maps (Liu et al. 2016), each brought to the same width by itself, and `extra` coarser ones."""

    def __init__(self, channels: list[int], width: int, extra: int) -> None:
        super().__init__()
        self.enter = nn.ModuleList(conv(c, width) for c in channels)
        self.coarser = nn.ModuleList(
            nn.Sequential(conv(width, width // 2, 1), conv(width // 2, width, stride=2)) for _ in range(extra)
        )

    def forward(self, maps: list[Tensor]) -> list[Tensor]:
        levels = [enter(x) for enter, x in zip(self.enter, maps, strict=True)]
        for layer in self.coarser:
            levels.append(layer(levels[-1]))
        return levels


class CSPBlock(nn.Module):
    """Cross stage partial block (Wang et al. 2020): half of the channels pass by the bottlenecks."""

    def __init__(self, inputs: int, outputs: int, depth: int = 1, shortcut: bool = True) -> None:
        super().__init__()
        half = outputs // 2
        self.main, self.side = conv(inputs, half, 1), conv(inputs, half, 1)
        self.blocks = nn.ModuleList(nn.Sequential(conv(half, half, 1), conv(half, half)) for _ in range(depth))
        self.shortcut = shortcut
        self.join = conv(2 * half, outputs, 1)

    def forward(self, x: Tensor) -> Tensor:
        main = self.main(x)
        for block in self.blocks:
            main = main + block(main) if self.shortcut else block(main)
        joined: Tensor = self.join(torch.cat([main, self.side(x)], dim=1))
        return joined


class PathAggregation(nn.Module):
    """Path aggregation (Liu et al. 2018) of CSP blocks, as in YOLOX: down the pyramid, then up again."""

    def __init__(self, channels: list[int], width: int, depth: int = 1) -> None:
        super().__init__()
        self.enter = nn.ModuleList(conv(c, width, 1) for c in channels)
        steps = len(channels) - 1
        self.down = nn.ModuleList(CSPBlock(2 * width, width, depth, shortcut=False) for _ in range(steps))
        self.shrink = nn.ModuleList(conv(width, width, stride=2) for _ in range(steps))
        self.up = nn.ModuleList(CSPBlock(2 * width, width, depth, shortcut=False) for _ in range(steps))

    def forward(self, maps: list[Tensor]) -> list[Tensor]:
        levels = [enter(m) for enter, m in zip(self.enter, maps, strict=True)]
        for i, block in zip(range(len(levels) - 2, -1, -1), self.down, strict=True):
            above = F.interpolate(levels[i + 1], scale_factor=2.0, mode="nearest")
            levels[i] = block(torch.cat([levels[i], above], dim=1))
        for i, (shrink, block) in enumerate(zip(self.shrink, self.up, strict=True)):
            levels[i + 1] = block(torch.cat([shrink(levels[i]), levels[i + 1]], dim=1))
        return levels


class SingleMap(nn.Module):
    """A single map, as in the original Faster R-CNN."""

    def __init__(self, channels: list[int], width: int) -> None:
        super().__init__()
        self.enter = conv(channels[-1], width)

    def forward(self, maps: list[Tensor]) -> list[Tensor]:
        return [self.enter(maps[-1])]


class Features(nn.Module):
    """Images to a list of maps (N, width, h, w); attribute `strides`, one entry a level."""

    def __init__(self, backbone: nn.Module, neck: nn.Module, strides: list[int]) -> None:
        super().__init__()
        self.backbone, self.neck, self.strides = backbone, neck, strides

    def forward(self, images: Tensor) -> list[Tensor]:
        maps: list[Tensor] = self.neck(self.backbone(images))
        return maps


class PartlyFrozen(nn.Module):
    """A pretrained backbone whose layers up to a stride stay as they are, and the statistics of BatchNorm everywhere.

    The first layers are general (edges, textures), work on the largest maps, and so cost most of the training time.
    """

    def __init__(self, backbone: Backbone, stride: int) -> None:
        super().__init__()
        self.network = backbone
        self.channels, self.strides = backbone.channels, backbone.strides
        self.frozen = freeze_stages(backbone, stride)

    def train(self, mode: bool = True) -> "PartlyFrozen":
        super().train(mode)
        for name in self.frozen:
            self.network.get_submodule(name).eval()
        freeze_batchnorm(self.network)
        return self

    def forward(self, images: Tensor) -> list[Tensor]:
        maps: list[Tensor] = self.network(images)
        return maps


def build_backbone(options: Any, channels: int, strides: tuple[int, ...] = STRIDES) -> PartlyFrozen | Backbone:
    """The timm network of a detector's options, giving the maps at the strides; random weights are never frozen.

    Raises OptionError for an unknown network, a stride it does not have, or where nothing is left to train.
    """
    backbone = load_backbone(options.backbone, options.weights, channels, strides)
    if options.weights == "random":
        return backbone
    if options.frozen_stride >= strides[-1]:
        raise OptionError(
            f"frozen_stride={options.frozen_stride} leaves nothing of {options.backbone} to train; take 4, or 0"
        )
    return PartlyFrozen(backbone, options.frozen_stride)


def build_features(
    options: Any,
    channels: int,
    neck: Neck,
    *,
    extra: int = 0,
    strides: tuple[int, ...] = STRIDES,
    backbone: Any = None,
    width: int | None = None,
    depth: int = 1,
) -> Features:
    """The backbone of a detector's options, or another module with `channels` and `strides`, under a neck.

    `extra` coarser levels go with the necks fpn and source only; `depth` is that of the blocks of pan. Raises
    OptionError where the backbone cannot be built, or the image size does not fit its strides.
    """
    backbone = build_backbone(options, channels, strides) if backbone is None else backbone
    inputs, levels, width = list(backbone.channels), list(backbone.strides), width or options.width
    if neck != "source":
        check_multiple(options.image_size, levels[-1])
    if neck == "single":
        return Features(backbone, SingleMap(inputs, width), levels[-1:])
    if neck == "pan":
        return Features(backbone, PathAggregation(inputs, width, depth), levels)
    levels += [levels[-1] * 2 ** (i + 1) for i in range(extra)]
    return Features(backbone, (FeaturePyramid if neck == "fpn" else SourceMaps)(inputs, width, extra), levels)
