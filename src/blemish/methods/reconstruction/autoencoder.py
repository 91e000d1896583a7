"""Convolutional autoencoder: a good image passes its bottleneck, a defect does not."""

import itertools
from typing import Any, ClassVar, Literal

import torch
from pydantic import Field
from torch import Tensor, nn

from blemish.errors import OptionError
from blemish.methods.base import Batch, Method, MethodInfo, Options
from blemish.methods.common.blocks import GaussianBlur, PatchGrid, count_halvings
from blemish.methods.common.losses import masked_mean, ssim_map
from blemish.methods.common.schedule import cosine_decay

COARSEST = 8  # places along a side that the last convolution joins to one vector


class AutoencoderOptions(Options):
    image_size: int = Field(128, ge=32, le=1024, description="side of the square that the network sees, in px")
    patch: int = Field(0, ge=0, description="side of the squares that are rebuilt, 16, 32, 64 ... px; 0: whole image")
    loss: Literal["l2", "ssim"] = Field("ssim", description="what is made small in learning, and shown as residual")
    dimensions: int = Field(100, ge=1, description="numbers in the bottleneck")
    width: int = Field(32, ge=1, description="channels of the first layers")
    steps: int = Field(1000, ge=1, description="training steps; the paper's 200 epochs of 10000 patches by 128: 15600")
    learning_rate: float = Field(1e-3, gt=0, description="of Adam; paper, for its long schedule: 2e-4")
    blur: float = Field(2.0, ge=0, description="sigma of the residual's Gaussian, in px of the network's input")


class Autoencoder(Method):
    """Bergmann et al. 2018, "Improving Unsupervised Defect Segmentation by Applying Structural Similarity".

    Kept: the layers of its network, bottleneck of 100, leaky ReLU of slope 0.2, both losses (L2, and SSIM in windows of
    11 px), whole images of 128 px or patches, which overlap in inspection; residual map = the loss pixel by pixel;
    Adam with decay 1e-5. Deviations: colour images stay in colour, the SSIM being averaged over the channels; fewer
    steps at a rate that starts higher and falls along a cosine; patches overlap by half (paper: step of 30 px); the map
    is smoothed, and its maximum is the image score (the paper judges pixels only).
    """

    info: ClassVar[MethodInfo] = MethodInfo(
        name="autoencoder",
        branch="reconstruction",
        title="Autoencoder",
        paper="Bergmann et al. 2018, Improving Unsupervised Defect Segmentation by Applying Structural Similarity",
        requires=("good",),
        answers=("where", "how much"),
        summary="Rebuilds the image from a hundred numbers and shows what is lost; the plain baseline.",
        smoke={"steps": 80, "width": 8, "learning_rate": 3e-3},
    )
    Options: ClassVar[type[Options]] = AutoencoderOptions
    options: AutoencoderOptions

    def __init__(self, options: AutoencoderOptions, classes: tuple[str, ...], channels: int = 3) -> None:
        super().__init__(options, classes, channels)
        self.patches = PatchGrid(options.image_size, options.patch)
        if self.patches.side < 2 * COARSEST:
            raise OptionError(f"patch={options.patch} must be 0 or at least {2 * COARSEST}")
        levels = count_halvings(self.patches.side, COARSEST)
        widths = [options.width * 2 ** max(0, min(level - 1, 2)) for level in range(levels)]  # 32, 32, 64, 128, ...
        self.encoder = nn.Sequential(
            *_down(channels, widths[0]),
            *(layer for before, after in itertools.pairwise(widths) for layer in _down(before, after)),
            nn.Conv2d(widths[-1], options.width, 3, padding=1),
            nn.LeakyReLU(0.2),
            nn.Conv2d(options.width, options.dimensions, COARSEST),
        )
        self.decoder = nn.Sequential(
            nn.ConvTranspose2d(options.dimensions, options.width, COARSEST),
            nn.LeakyReLU(0.2),
            nn.Conv2d(options.width, widths[-1], 3, padding=1),
            nn.LeakyReLU(0.2),
            *(layer for after, before in itertools.pairwise(widths[::-1]) for layer in _up(after, before)),
            nn.ConvTranspose2d(widths[0], channels, 4, 2, 1),
            nn.Sigmoid(),
        )
        self.apply(started)
        self.blur = GaussianBlur(options.blur)

    def residual(self, images: Tensor) -> Tensor:
        """(N, H, W) difference of images and what is rebuilt of them, from 0."""
        rebuilt = self.decoder(self.encoder(images))
        if self.options.loss == "ssim":
            return 1 - ssim_map(images, rebuilt)
        return (images - rebuilt).square().mean(dim=1)

    def forward(self, images: Tensor) -> dict[str, Tensor]:
        heat = self.blur(self.patches.join(self.residual(self.patches.split(images))))
        return {"anomaly_score": heat.flatten(1).amax(dim=1), "anomaly_map": heat}

    def training_step(self, batch: Batch, index: int) -> Tensor:
        images, valid = self.patches.random(batch["image"], batch["valid"])
        loss = masked_mean(self.residual(images), valid)
        self.log("loss", loss, prog_bar=True)
        return loss

    def configure_optimizers(self) -> dict[str, Any]:
        optimizer = torch.optim.Adam(self.parameters(), lr=self.options.learning_rate, weight_decay=1e-5)
        return cosine_decay(optimizer, self.options.steps)

    def trainer_options(self) -> dict[str, Any]:
        return {"max_steps": self.options.steps}


def started(layer: nn.Module) -> None:
    """He et al. 2015's weights: PyTorch's own let so many layers shrink the image to nothing at first."""
    if isinstance(layer, nn.Conv2d | nn.ConvTranspose2d):
        # A pixel is reached by the whole kernel; in enlarging by a stride's share of it, or by one place of it where
        # a single pixel is spread out.
        stride, whole = layer.stride[0], layer.kernel_size[0] ** 2
        reach = whole if not layer.transposed else whole / stride**2 if stride > 1 else 1
        gain = nn.init.calculate_gain("leaky_relu", 0.2)
        nn.init.normal_(layer.weight, std=gain / (layer.in_channels * reach) ** 0.5)
        if layer.bias is not None:
            nn.init.zeros_(layer.bias)


def _down(inputs: int, outputs: int) -> list[nn.Module]:
    return [
        nn.Conv2d(inputs, outputs, 4, 2, 1),
        nn.LeakyReLU(0.2),
        nn.Conv2d(outputs, outputs, 3, padding=1),
        nn.LeakyReLU(0.2),
    ]


def _up(inputs: int, outputs: int) -> list[nn.Module]:
    return [
        nn.ConvTranspose2d(inputs, outputs, 4, 2, 1),
        nn.LeakyReLU(0.2),
        nn.Conv2d(outputs, outputs, 3, padding=1),
        nn.LeakyReLU(0.2),
    ]
