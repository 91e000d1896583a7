"""The base of methods whose U-Net learns to restore corrupted good images, and so removes defects."""

from abc import abstractmethod
from typing import ClassVar

import torch
from pydantic import Field
from torch import Tensor
from torch.optim import Optimizer

from blemish.methods.base import Batch, Options
from blemish.methods.common.anomaly import StepMethod, blur_option, masked_squared_error, side_option
from blemish.methods.common.blocks import GaussianBlur, PlainUNet, check_multiple
from blemish.methods.common.standardise import MapMethod, MapOptions

LEVELS = 4  # halvings of the U-Nets


class RestorationOptions(MapOptions):
    image_size: int = side_option(128)
    batch_size: int = Field(8, ge=1, description="images in a training batch")
    width: int = Field(16, ge=1, description="channels of the U-Net's first level, doubled at each next")
    steps: int = Field(800, ge=1, description="training steps")
    learning_rate: float = Field(1e-3, gt=0, description="of Adam")
    blur: float = blur_option(2.0)


class Restoration(MapMethod, StepMethod):
    """A U-Net trained in L2 to restore corrupted good images; the map compares an image with its restoration."""

    Options: ClassVar[type[Options]] = RestorationOptions
    options: RestorationOptions

    def __init__(self, options: RestorationOptions, classes: tuple[str, ...], channels: int = 3) -> None:
        super().__init__(options, classes, channels)
        check_multiple(options.image_size, 2**LEVELS)
        self.network = PlainUNet(channels, channels, options.width, LEVELS, padding="reflect")
        self.blur = GaussianBlur(options.blur)

    @abstractmethod
    def corrupt(self, images: Tensor) -> Tensor:
        """Corrupted training images (N, C, H, W)."""

    @abstractmethod
    def difference(self, images: Tensor) -> Tensor:
        """Differences (N, H, W) of images and their restorations, in inspection."""

    def restore(self, images: Tensor) -> Tensor:
        """Images corrupted and restored."""
        return self.network(self.corrupt(images))

    def map_and_score(self, images: Tensor) -> tuple[Tensor, None]:
        return self.blur(self.difference(images)), None

    def compute_loss(self, batch: Batch) -> Tensor:
        return masked_squared_error(batch["image"], self.restore(batch["image"]), batch["valid"])

    def make_optimizer(self) -> Optimizer:
        return torch.optim.Adam(self.parameters(), lr=self.options.learning_rate, amsgrad=True)
