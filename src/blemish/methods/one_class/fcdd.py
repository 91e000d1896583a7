"""FCDD: a fully convolutional one-class classifier whose output is the heat map itself."""

from typing import Any, ClassVar

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor, nn

from blemish.errors import OptionError
from blemish.methods.base import Batch, MethodInfo, Options
from blemish.methods.common.anomaly import StepMethod, anomaly_outputs
from blemish.methods.common.backbones import DEFAULT_BACKBONE, load_backbone
from blemish.methods.common.blocks import FrozenNetwork, GaussianBlur, conv_block, enlarge
from blemish.methods.common.losses import hypersphere_loss, pseudo_huber
from blemish.methods.common.schedule import cosine_decay
from blemish.methods.common.textures import confetti


class FCDDOptions(Options):
    batch_size: int = Field(8, ge=1, description="good images in a training batch; as many with confetti are added")
    backbone: str = Field(DEFAULT_BACKBONE, description="timm name of the network whose first layers are used")
    weights: str = Field("auto", description="auto, embedded, imagenet, random, or a local weights file")
    stride: int = Field(
        16, ge=1, description="feature map after which the trained layers begin, and spacing of the map"
    )
    width: int = Field(128, ge=1, description="channels of the trained layers")
    steps: int = Field(400, ge=1, description="training steps; the paper's 200 epochs of 209 images: 5200")
    learning_rate: float = Field(1e-2, gt=0, description="of the gradient descent with Nesterov momentum 0.9")
    blur: float = Field(8.0, ge=0, description="sigma of the Gaussian of the enlarging, in px of the network's input")


class FCDD(StepMethod):
    """Liznerski et al. 2021, "Explainable Deep One-Class Classification" (FCDD), ICLR.

    Kept: the first layers of a network trained on ImageNet, frozen, and trained convolutions after them to a map of one
    channel; its pseudo-Huber values are the heat map and their mean the image score; hypersphere classification loss
    against synthetic anomalies, confetti pasted on half of the images; Nesterov momentum 0.9, decay 1e-4; the map is
    enlarged by a Gaussian. Deviations: a lighter default backbone (paper: VGG-11); the Gaussian follows a bilinear
    enlarging, where the paper has a transposed convolution with it; confetti may also carry a texture; fewer steps, at
    a rate that starts higher (paper: 1e-3) and falls along a cosine.
    """

    info: ClassVar[MethodInfo] = MethodInfo(
        name="fcdd",
        branch="one_class",
        title="FCDD",
        paper="Liznerski et al. 2021, Explainable Deep One-Class Classification, ICLR",
        requires=("good",),
        answers=("where", "how much"),
        summary="One-class classifier whose map explains its score; trained against confetti pasted on good images.",
        smoke={"steps": 40},
    )
    Options: ClassVar[type[Options]] = FCDDOptions
    options: FCDDOptions

    def __init__(self, options: FCDDOptions, classes: tuple[str, ...], channels: int = 3) -> None:
        super().__init__(options, classes, channels)
        if options.image_size % options.stride:
            raise OptionError(f"image_size={options.image_size} must be a multiple of stride={options.stride}")
        backbone = load_backbone(options.backbone, options.weights, channels, (options.stride,))
        self.head = nn.Sequential(
            conv_block(backbone.channels[0], options.width, 3),
            conv_block(options.width, options.width, 3),
            nn.Conv2d(options.width, 1, 1),
        )
        self.backbone = FrozenNetwork(backbone)
        self.blur = GaussianBlur(options.blur)

    def low_resolution_map(self, images: Tensor) -> Tensor:
        """(N, h, w) pseudo-Huber distances to the centre, which the bias of the last layer puts at zero."""
        return pseudo_huber(self.head(self.backbone(images)[0])[:, 0])

    def forward(self, images: Tensor) -> dict[str, Tensor]:
        heat = self.low_resolution_map(images)
        return anomaly_outputs(self.blur(enlarge(heat, images.shape[-2:])), heat.mean(dim=(1, 2)))

    def compute_loss(self, batch: Batch) -> Tensor:
        good, valid = batch["image"], batch["valid"]
        corrupted, masks = confetti(good)
        corrupted = torch.where(valid[:, None], corrupted, good)
        is_anomalous = torch.cat([torch.zeros_like(valid[:, 0, 0]), (masks & valid).flatten(1).any(dim=1)])
        heat = self.low_resolution_map(jitter_intensity(torch.cat([good, corrupted])))
        size = (heat.shape[-2], heat.shape[-1])
        weight = F.adaptive_avg_pool2d(torch.cat([valid, valid])[:, None].float(), size)[:, 0]
        distance = (heat * weight).sum(dim=(1, 2)) / weight.sum(dim=(1, 2)).clamp(min=1)
        return hypersphere_loss(distance, is_anomalous)

    def configure_optimizers(self) -> Any:
        optimizer = torch.optim.SGD(
            self.head.parameters(), lr=self.options.learning_rate, momentum=0.9, nesterov=True, weight_decay=1e-4
        )
        return cosine_decay(optimizer, self.options.steps, warmup=min(20, self.options.steps // 10))

    def trainer_options(self) -> dict[str, Any]:
        return {**super().trainer_options(), "gradient_clip_val": 5.0}


def jitter_intensity(images: Tensor) -> Tensor:
    """A small change of brightness and some sensor noise for each image, so that neither becomes a sign of a defect."""
    gain = 1 + 0.05 * torch.randn(len(images), 1, 1, 1, device=images.device)
    noise = 0.01 * torch.rand(len(images), 1, 1, 1, device=images.device) * torch.randn_like(images)
    return (images * gain + noise).clamp(0, 1)
