"""Convolutional autoencoder: a good image passes its bottleneck, a defect does not."""

import itertools
from typing import ClassVar, Literal

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.optim import Optimizer

from blemish.errors import OptionError
from blemish.methods.base import Batch, MethodInfo, Options
from blemish.methods.common.anomaly import StepMethod, blur_option, side_option
from blemish.methods.common.blocks import DoublingConv, GaussianBlur, PatchGrid, count_halvings, halving_conv
from blemish.methods.common.losses import masked_mean, ssim_map
from blemish.methods.common.standardise import MapMethod, MapOptions

COARSEST = 8  # cells along a side that the last convolution joins to one vector


class AutoencoderOptions(MapOptions):
    image_size: int = side_option(128)
    patch: int = Field(
        0, ge=0, description="side of the squares that are reconstructed, 16, 32, 64 ... px; 0: whole image"
    )
    loss: Literal["l2", "ssim"] = Field("ssim", description="loss in training, and residual map")
    dimensions: int = Field(100, ge=1, description="numbers in the bottleneck")
    width: int = Field(32, ge=1, description="channels of the first layers")
    steps: int = Field(1000, ge=1, description="training steps; the paper's 200 epochs of 10000 patches by 128: 15600")
    learning_rate: float = Field(1e-3, gt=0, description="of Adam; paper, for its long schedule: 2e-4")
    blur: float = blur_option(2.0)


class Autoencoder(MapMethod, StepMethod):
    """Bergmann et al. 2018, "Improving Unsupervised Defect Segmentation by Applying Structural Similarity".

    Kept: the layers of its network, bottleneck of 100, leaky ReLU of slope 0.2, both losses (L2, and SSIM in windows of
    11 px), whole images of 128 px or patches, which overlap in inspection; residual map = the loss pixel by pixel;
    Adam with decay 1e-5. Deviations: colour images stay in colour, the SSIM being averaged over the channels; fewer
    steps at a rate that starts higher and falls along a cosine; patches overlap by half (paper: step of 30 px); the
    border is mirrored, not zero; the map is smoothed and standardised by held-out good images (`standardise=none`: the
    paper's), and its maximum is the image score (the paper scores pixels only).
    """

    info: ClassVar[MethodInfo] = MethodInfo(
        name="autoencoder",
        branch="reconstruction",
        title="Autoencoder",
        paper="Bergmann et al. 2018, Improving Unsupervised Defect Segmentation by Applying Structural Similarity",
        requires=("good",),
        answers=("where", "how much"),
        summary="Reconstructs the image from a hundred numbers and maps what is lost; the plain baseline.",
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
            *_stage(halving_conv(channels, widths[0]), widths[0]),
            *(
                layer
                for before, after in itertools.pairwise(widths)
                for layer in _stage(halving_conv(before, after), after)
            ),
            _same_conv(widths[-1], options.width),
            nn.LeakyReLU(0.2),
            nn.Conv2d(options.width, options.dimensions, COARSEST),
        )
        self.decoder = nn.Sequential(
            nn.ConvTranspose2d(options.dimensions, options.width, COARSEST),
            nn.LeakyReLU(0.2),
            _same_conv(options.width, widths[-1]),
            nn.LeakyReLU(0.2),
            *(
                layer
                for before, after in itertools.pairwise(widths[::-1])
                for layer in _stage(DoublingConv(before, after), after)
            ),
            DoublingConv(widths[0], channels),
            nn.Sigmoid(),
        )
        self.apply(init_weights)
        self.blur = GaussianBlur(options.blur)

    def compare(self, images: Tensor) -> Tensor:
        """Residuals (N, H, W), from 0, of images and their reconstructions."""
        restored = self.decoder(self.encoder(images))
        if self.options.loss == "ssim":
            return 1 - ssim_map(images, restored)
        return (images - restored).square().mean(dim=1)

    def map_and_score(self, images: Tensor) -> tuple[Tensor, None]:
        return self.blur(self.patches.join(self.compare(self.patches.split(images)))), None

    def compute_loss(self, batch: Batch) -> Tensor:
        images, valid = self.patches.random(batch["image"], batch["valid"])
        return masked_mean(self.compare(images), valid)

    def make_optimizer(self) -> Optimizer:
        return torch.optim.Adam(self.parameters(), lr=self.options.learning_rate, weight_decay=1e-5)


def init_weights(layer: nn.Module) -> None:
    """He et al. 2015's initialisation: with PyTorch's own the image vanishes at first in so many layers."""
    if isinstance(layer, nn.Conv2d | nn.ConvTranspose2d):
        # A pixel is reached by the whole kernel; in enlarging by a stride's share of it, or by one of its elements
        # where a single pixel is spread out.
        stride, whole = layer.stride[0], layer.kernel_size[0] ** 2
        reach = whole if not layer.transposed else whole / stride**2 if stride > 1 else 1
        gain = nn.init.calculate_gain("leaky_relu", 0.2)
        nn.init.normal_(layer.weight, std=gain / (layer.in_channels * reach) ** 0.5)
        if layer.bias is not None:
            nn.init.zeros_(layer.bias)


def _stage(resize: nn.Module, channels: int) -> list[nn.Module]:
    """A resizing convolution and one that keeps the size."""
    return [resize, nn.LeakyReLU(0.2), _same_conv(channels, channels), nn.LeakyReLU(0.2)]


def _same_conv(inputs: int, outputs: int) -> nn.Conv2d:
    return nn.Conv2d(inputs, outputs, 3, padding=1, padding_mode="reflect")
