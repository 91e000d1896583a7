"""Reverse distillation: a decoder reconstructs the teacher's features from a narrow embedding of good images."""

from collections.abc import Sequence
from typing import ClassVar

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.optim import Optimizer

from blemish.errors import OptionError
from blemish.methods.base import Batch, MethodInfo, Options
from blemish.methods.common.anomaly import StepMethod, anomaly_outputs, blur_option, sum_of_means, worst_share_option
from blemish.methods.common.backbones import DEFAULT_BACKBONE, load_backbone
from blemish.methods.common.blocks import FrozenNetwork, GaussianBlur, conv_block, sum_maps
from blemish.methods.common.losses import squared_unit_distance


class ReverseDistillationOptions(Options):
    backbone: str = Field(DEFAULT_BACKBONE, description="timm name of the teacher")
    weights: str = Field("auto", description="auto, embedded, imagenet, random, or a local weights file")
    strides: tuple[int, ...] = Field(
        (4, 8, 16), description="feature maps reconstructed, finest first, each twice the one before"
    )
    width: int = Field(256, ge=8, description="channels of the embedding, halved with each doubling of the size")
    steps: int = Field(600, ge=1, description="training steps; the paper's 200 epochs of 209 images: 2600")
    learning_rate: float = Field(0.005, gt=0, description="of Adam with betas 0.5 and 0.999")
    blur: float = blur_option(4.0)
    worst_share: float = worst_share_option(0.01)


class ReverseDistillation(StepMethod):
    """Deng & Li 2022, "Anomaly Detection via Reverse Distillation from One-Class Embedding", CVPR.

    Kept: multi-scale feature fusion, one-class bottleneck embedding, a decoder that mirrors the teacher from coarse to
    fine, cosine distance at each of three scales, Adam (0.005; 0.5, 0.999), map = sum of the enlarged maps smoothed
    with sigma 4. Deviations: a lighter default teacher (the paper's is
    `backbone=wide_resnet50_2`); the decoder is made of residual blocks of `width` channels with a 1 x 1 convolution to
    the teacher's channels at each scale, so that it fits any teacher, also one whose features are not rectified; the
    distance is taken location by location, as in the paper's equation; the learning rate falls along a cosine; the
    image score is the mean of the map's worst hundredth (the paper's, its maximum: `worst_share=0`).
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

    def __init__(self, options: ReverseDistillationOptions, classes: tuple[str, ...], channels: int = 3) -> None:
        super().__init__(options, classes, channels)
        if any(b != 2 * a for a, b in zip(options.strides, options.strides[1:], strict=False)):
            raise OptionError(f"strides={list(options.strides)}: each must be twice the one before, such as [4, 8, 16]")
        if options.image_size % (2 * options.strides[-1]):
            raise OptionError(f"image_size={options.image_size} must be a multiple of {2 * options.strides[-1]}")
        backbone = load_backbone(options.backbone, options.weights, channels, options.strides)
        self.bottleneck = FusionBottleneck(backbone.channels, options.width)
        self.decoder = FeatureDecoder(options.width, backbone.channels)
        self.teacher = FrozenNetwork(backbone)
        self.blur = GaussianBlur(options.blur)

    def distances(self, images: Tensor, numbers: Tensor | None = None) -> list[Tensor]:
        """(N, h, w) cosine distance of the teacher's and the reconstructed features for each scale."""
        features = self.teacher(images, numbers)
        reconstructed = self.decoder(self.bottleneck(features))
        return [squared_unit_distance(a, b) for a, b in zip(features, reconstructed, strict=True)]

    def forward(self, images: Tensor) -> dict[str, Tensor]:
        heat = self.blur(sum_maps(self.distances(images), images.shape[-2:]))
        return anomaly_outputs(heat, worst_share=self.options.worst_share)

    def compute_loss(self, batch: Batch) -> Tensor:
        return sum_of_means(self.distances(batch["image"], batch.get("number")), batch["valid"])

    def make_optimizer(self) -> Optimizer:
        trained = [*self.bottleneck.parameters(), *self.decoder.parameters()]
        return torch.optim.Adam(trained, lr=self.options.learning_rate, betas=(0.5, 0.999))


class ResidualBlock(nn.Module):
    """Two convolutions and a shortcut, which follows a change of channels or size."""

    def __init__(self, inputs: int, outputs: int, stride: int = 1) -> None:
        super().__init__()
        self.first = conv_block(inputs, outputs, 3, stride)
        self.second = nn.Sequential(nn.Conv2d(outputs, outputs, 3, 1, 1, bias=False), nn.BatchNorm2d(outputs))
        same = inputs == outputs and stride == 1
        self.shortcut = nn.Identity() if same else nn.Conv2d(inputs, outputs, 1, stride, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        return torch.relu(self.second(self.first(x)) + self.shortcut(x))


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
        self.embed = nn.Sequential(
            conv_block(fused, width, 1), ResidualBlock(width, width, 2), ResidualBlock(width, width)
        )

    def forward(self, maps: Sequence[Tensor]) -> Tensor:
        return self.embed(torch.cat([reduce(m) for reduce, m in zip(self.reduce, maps, strict=True)], dim=1))


class FeatureDecoder(nn.Module):
    """From the embedding back to feature maps of the given channels, finest first, doubling the size at each stage."""

    def __init__(self, width: int, channels: Sequence[int]) -> None:
        super().__init__()
        self.stages = nn.ModuleList()
        self.heads = nn.ModuleList()
        for channel in reversed(channels):
            narrower = max(width // 2, 32)
            up = nn.ConvTranspose2d(width, narrower, 4, 2, 1, bias=False)
            self.stages.append(
                nn.Sequential(up, nn.BatchNorm2d(narrower), nn.ReLU(), ResidualBlock(narrower, narrower))
            )
            self.heads.append(nn.Conv2d(narrower, channel, 1))
            width = narrower

    def forward(self, x: Tensor) -> list[Tensor]:
        maps = []
        for stage, head in zip(self.stages, self.heads, strict=True):
            x = stage(x)
            maps.append(head(x))
        return maps[::-1]
