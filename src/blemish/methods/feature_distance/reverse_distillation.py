"""Reverse distillation: a decoder reconstructs the teacher's features from a narrow embedding of good images."""

from collections.abc import Sequence
from typing import ClassVar

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.optim import Optimizer

from blemish.errors import OptionError
from blemish.methods.base import Batch, MethodInfo, Options, pad_to_two
from blemish.methods.common.anomaly import StepMethod, anomaly_outputs, blur_option, worst_share_option
from blemish.methods.common.backbones import DEFAULT_BACKBONE, load_backbone
from blemish.methods.common.blocks import FrozenNetwork, GaussianBlur, conv_block, sum_maps
from blemish.methods.common.losses import squared_unit_distance, whole_map_distance


class ReverseDistillationOptions(Options):
    backbone: str = Field(DEFAULT_BACKBONE, description="timm name of the teacher")
    weights: str = Field("auto", description="auto, embedded, imagenet, random, or a local weights file")
    strides: tuple[int, ...] = Field(
        (4, 8, 16), description="feature maps reconstructed, finest first, each twice the one before"
    )
    width: int = Field(256, ge=8, description="channels of the embedding")
    steps: int = Field(600, ge=1, description="training steps; the paper's 200 epochs of 209 images: 2600")
    learning_rate: float = Field(0.005, gt=0, description="of Adam with betas 0.5 and 0.999")
    blur: float = blur_option(4.0)
    worst_share: float = worst_share_option(0.01)


class ReverseDistillation(StepMethod):
    """Deng & Li 2022, "Anomaly Detection via Reverse Distillation from One-Class Embedding", CVPR.

    Kept: multi-scale feature fusion, one-class bottleneck embedding, a decoder that mirrors the teacher from coarse to
    fine, each scale from the map reconstructed before, cosine distance at each of three scales, Adam at a constant rate
    (0.005; 0.5, 0.999), map = sum of the enlarged maps smoothed with sigma 4. In training the distance is that of whole
    maps, as in the authors' code; the paper's equation takes it location by location, where a plain background counts
    as much as the part. Deviations: a lighter default teacher (the paper's is `backbone=wide_resnet50_2`) and an
    embedding of `width` channels; two residual blocks a scale, the last without a ReLU where the teacher's features are
    not rectified; the image score is the mean of the map's worst hundredth (the paper's, its maximum: `worst_share=0`).
    """

    info: ClassVar[MethodInfo] = MethodInfo(
        name="reverse-distillation",
        branch="feature_distance",
        title="Reverse distillation",
        paper="Deng & Li 2022, Anomaly Detection via Reverse Distillation from One-Class Embedding, CVPR",
        requires=("good",),
        answers=("where", "how much"),
        summary="A decoder reconstructs a teacher's features through a bottleneck that only good features pass.",
        smoke={"steps": 30, "width": 64},
    )
    Options: ClassVar[type[Options]] = ReverseDistillationOptions
    options: ReverseDistillationOptions
    falling_rate = False

    def __init__(self, options: ReverseDistillationOptions, classes: tuple[str, ...], channels: int = 3) -> None:
        super().__init__(options, classes, channels)
        if any(b != 2 * a for a, b in zip(options.strides, options.strides[1:], strict=False)):
            raise OptionError(f"strides={list(options.strides)}: each must be twice the one before, such as [4, 8, 16]")
        if options.image_size % (2 * options.strides[-1]):
            raise OptionError(f"image_size={options.image_size} must be a multiple of {2 * options.strides[-1]}")
        backbone = load_backbone(options.backbone, options.weights, channels, options.strides)
        self.teacher = FrozenNetwork(backbone)
        side = 4 * options.strides[-1]
        rectified = [bool(m.min() >= 0) for m in self.teacher(torch.zeros(1, channels, side, side))]
        self.bottleneck = FusionBottleneck(backbone.channels, options.width)
        self.decoder = FeatureDecoder(options.width, backbone.channels, rectified)
        for module in (*self.bottleneck.modules(), *self.decoder.modules()):
            if isinstance(module, nn.Conv2d | nn.ConvTranspose2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
        self.blur = GaussianBlur(options.blur)

    def pairs(self, images: Tensor, numbers: Tensor | None = None) -> list[tuple[Tensor, Tensor]]:
        """The teacher's and the reconstructed (N, C, h, w) features of each scale."""
        features = self.teacher(images, numbers)
        return list(zip(features, self.decoder(self.bottleneck(features)), strict=True))

    def forward(self, images: Tensor) -> dict[str, Tensor]:
        maps = [squared_unit_distance(a, b) for a, b in self.pairs(images)]
        heat = self.blur(sum_maps(maps, images.shape[-2:]))
        return anomaly_outputs(heat, worst_share=self.options.worst_share)

    def compute_loss(self, batch: Batch) -> Tensor:
        if self.options.image_size == 2 * self.options.strides[-1]:  # the embedding has one location
            batch = pad_to_two(batch)
        pairs = self.pairs(batch["image"], batch.get("number"))
        return torch.stack([whole_map_distance(a, b, batch["valid"]) for a, b in pairs]).sum()

    def make_optimizer(self) -> Optimizer:
        trained = [*self.bottleneck.parameters(), *self.decoder.parameters()]
        return torch.optim.Adam(trained, lr=self.options.learning_rate, betas=(0.5, 0.999))


class ResidualBlock(nn.Module):
    """Two convolutions and a shortcut that follows a change of channels or of the size, which `scale` multiplies."""

    def __init__(self, inputs: int, outputs: int, scale: float = 1, rectified: bool = True) -> None:
        super().__init__()
        self.rectified = rectified
        self.first = scaled_conv(inputs, outputs, 3, scale)
        self.second = scaled_conv(outputs, outputs, 3)
        self.shortcut = nn.Identity() if inputs == outputs and scale == 1 else scaled_conv(inputs, outputs, 1, scale)

    def forward(self, x: Tensor) -> Tensor:
        total = self.second(torch.relu(self.first(x))) + self.shortcut(x)
        return torch.relu(total) if self.rectified else total


def scaled_conv(inputs: int, outputs: int, kernel: int, scale: float = 1) -> nn.Sequential:
    """Convolution and BatchNorm; a size is halved by the stride, doubled by a deconvolution without overlaps."""
    convolution: nn.Module = (
        nn.ConvTranspose2d(inputs, outputs, 2, 2, bias=False)
        if scale == 2
        else nn.Conv2d(inputs, outputs, kernel, round(1 / scale), kernel // 2, bias=False)
    )
    return nn.Sequential(convolution, nn.BatchNorm2d(outputs))


class FusionBottleneck(nn.Module):
    """Multi-scale feature fusion and one-class embedding: maps of doubling stride to one map of half the coarsest."""

    def __init__(self, channels: Sequence[int], width: int) -> None:
        super().__init__()
        last = len(channels) - 1
        self.reduce = nn.ModuleList(
            nn.Sequential(*(conv_block(channels[i] * 2**k, channels[i] * 2 ** (k + 1), 3, 2) for k in range(last - i)))
            for i in range(len(channels))
        )
        fused = sum(channel * 2 ** (last - i) for i, channel in enumerate(channels))
        self.embed = nn.Sequential(ResidualBlock(fused, width, 0.5), ResidualBlock(width, width))

    def forward(self, maps: Sequence[Tensor]) -> Tensor:
        return self.embed(torch.cat([reduce(m) for reduce, m in zip(self.reduce, maps, strict=True)], dim=1))


class FeatureDecoder(nn.Module):
    """From the embedding back to feature maps of the given channels, finest first, doubling the size at each stage.

    Each stage starts from the map that the one before has reconstructed. Maps of a teacher that ends in a ReLU are
    `rectified` too.
    """

    def __init__(self, width: int, channels: Sequence[int], rectified: Sequence[bool]) -> None:
        super().__init__()
        self.stages = nn.ModuleList()
        for channel, positive in zip(reversed(channels), reversed(rectified), strict=True):
            last = ResidualBlock(channel, channel, rectified=positive)
            self.stages.append(nn.Sequential(ResidualBlock(width, channel, 2), last))
            width = channel

    def forward(self, x: Tensor) -> list[Tensor]:
        maps = []
        for stage in self.stages:
            x = stage(x)
            maps.append(x)
        return maps[::-1]
