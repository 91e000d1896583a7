"""Inpainting: every pixel of the image is masked once and inpainted from its surroundings."""

from typing import ClassVar

import torch
from pydantic import Field
from torch import Tensor

from blemish.methods.base import Batch, MethodInfo, Options
from blemish.methods.common.anomaly import StepMethod, masked_squared_error
from blemish.methods.common.blocks import PlainUNet, check_multiple, mean_filter
from blemish.methods.common.corruption import disjoint_masks
from blemish.methods.common.losses import masked_mean, msgms_map, ssim_map
from blemish.methods.common.standardise import MapMethod, MapOptions
from blemish.methods.restoration.restoration import LEVELS


class InpaintingOptions(MapOptions):
    image_size: int = Field(128, ge=64, le=1024, description="side of the square that the network sees; paper: 256")
    batch_size: int = Field(4, ge=1, description="images in a training batch, each as often as there are masks")
    cells: tuple[int, ...] = Field((2, 4, 8, 16), min_length=1, description="sides of the masked squares, in px")
    masks: int = Field(3, ge=2, description="disjoint masks that together cover the image")
    width: int = Field(16, ge=1, description="channels of the U-Net's first level, doubled at each next; paper: 64")
    steps: int = Field(600, ge=1, description="training steps; the paper's 300 epochs of 209 images: 15700")
    learning_rate: float = Field(1e-3, gt=0, description="of Adam; paper, for its long schedule: 1e-4")


class Inpainting(MapMethod, StepMethod):
    """Zavrtanik et al. 2021, "Reconstruction by Inpainting for Visual Anomaly Detection" (RIAD), Pattern Recognition.

    Kept: U-Net with skips; squares of 2, 4, 8 and 16 px in three disjoint masks; the image is assembled from
    what is inpainted under each mask; loss = L2 + MSGMS + SSIM, one size of squares a step; map = MSGMS distance,
    averaged over the sizes and by a square of 21 px in 256; image score = its maximum. Deviations: images of 128 px, so
    that the squares are twice as large on the part, a quarter of the width, few steps, at a rate that starts higher and
    falls along a cosine; the border is mirrored; the map is standardised by held-out good images (`standardise=none`:
    the paper's). In inspection the masks are the same for every image, so that a result repeats.
    """

    info: ClassVar[MethodInfo] = MethodInfo(
        name="inpainting",
        branch="restoration",
        title="RIAD (inpainting)",
        paper="Zavrtanik et al. 2021, Reconstruction by Inpainting for Visual Anomaly Detection, Pattern Recognition",
        requires=("good",),
        answers=("where", "how much"),
        summary="Masks the image in squares and inpaints them from their surroundings; precise, slow in inspection.",
        smoke={"steps": 12, "width": 4},
    )
    Options: ClassVar[type[Options]] = InpaintingOptions
    options: InpaintingOptions

    def __init__(self, options: InpaintingOptions, classes: tuple[str, ...], channels: int = 3) -> None:
        super().__init__(options, classes, channels)
        check_multiple(options.image_size, 2**LEVELS)
        self.network = PlainUNet(channels, channels, options.width, LEVELS, padding="reflect")
        self.side = 2 * round(10 * options.image_size / 256) + 1
        for cell in options.cells:
            self.register_buffer(f"masks_{cell}", self.random_masks(cell))

    def random_masks(self, cell: int) -> Tensor:
        """New masks of squares of a size: (masks, H, W) bool."""
        return disjoint_masks(self.options.image_size, self.options.image_size, cell, self.options.masks)

    def inpaint(self, images: Tensor, masks: Tensor) -> Tensor:
        """Images (N, C, H, W) assembled from what the network inpaints under each mask."""
        masked = (images[:, None] * (~masks)[None, :, None].to(images.dtype)).flatten(0, 1)
        inpainted = self.network(masked).unflatten(0, (-1, len(masks)))
        return (inpainted * masks[None, :, None].to(images.dtype)).sum(dim=1)

    def map_and_score(self, images: Tensor) -> tuple[Tensor, None]:
        masks = [self.get_buffer(f"masks_{cell}") for cell in self.options.cells]
        maps = [msgms_map(images, self.inpaint(images, own)) for own in masks]
        return mean_filter(torch.stack(maps).mean(dim=0), self.side), None

    def compute_loss(self, batch: Batch) -> Tensor:
        images, valid = batch["image"], batch["valid"]
        cell = self.options.cells[int(torch.randint(len(self.options.cells), ()))]
        inpainted = self.inpaint(images, self.random_masks(cell).to(images.device))
        squared = masked_squared_error(images, inpainted, valid)
        gradients = masked_mean(msgms_map(images, inpainted), valid)
        structure = masked_mean(1 - ssim_map(images, inpainted), valid)
        self.log_dict({"l2": squared, "msgms": gradients, "ssim": structure}, prog_bar=True)
        return squared + gradients + structure
