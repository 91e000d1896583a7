"""Inpainting: every part of the image is covered once and drawn again from what is round it."""

from typing import Any, ClassVar

import torch
from pydantic import Field
from torch import Tensor

from blemish.methods.base import Batch, Method, MethodInfo, Options
from blemish.methods.common.blocks import PlainUNet, check_multiple, mean_filter
from blemish.methods.common.losses import masked_mean, msgms_map, ssim_map
from blemish.methods.common.schedule import cosine_decay
from blemish.synthesis.corruption import disjoint_masks

LEVELS = 4


class InpaintingOptions(Options):
    image_size: int = Field(128, ge=64, le=1024, description="side of the square that the network sees; paper: 256")
    batch_size: int = Field(4, ge=1, description="images in a training batch, each as often as there are masks")
    cells: tuple[int, ...] = Field((2, 4, 8, 16), min_length=1, description="sides of the covered squares, in px")
    masks: int = Field(3, ge=2, description="disjoint masks that together cover the image")
    width: int = Field(16, ge=1, description="channels of the U-Net's first level, doubled at each next; paper: 64")
    steps: int = Field(600, ge=1, description="training steps; the paper's 300 epochs of 209 images: 15700")
    learning_rate: float = Field(1e-3, gt=0, description="of Adam; paper, for its long schedule: 1e-4")


class Inpainting(Method):
    """Zavrtanik et al. 2021, "Reconstruction by Inpainting for Visual Anomaly Detection" (RIAD), Pattern Recognition.

    Kept: U-Net with skips; squares of 2, 4, 8 and 16 px dealt to three disjoint masks; the image is put together from
    what is drawn under each mask; loss = L2 + MSGMS + SSIM, one size of squares a step; map = MSGMS distance, averaged
    over the sizes and by a square of 21 px in 256; image score = its maximum. Deviations: images of 128 px, so that
    the squares are twice as large on the part, a quarter of the width, few steps, at a rate that starts higher and
    falls along a cosine. In inspection the masks are the same for every image, so that a result repeats.
    """

    info: ClassVar[MethodInfo] = MethodInfo(
        name="inpainting",
        branch="restoration",
        title="RIAD (inpainting)",
        paper="Zavrtanik et al. 2021, Reconstruction by Inpainting for Visual Anomaly Detection, Pattern Recognition",
        requires=("good",),
        answers=("where", "how much"),
        summary="Covers the image in squares and draws them from their surroundings; precise, slow in inspection.",
        smoke={"steps": 12, "width": 4},
    )
    Options: ClassVar[type[Options]] = InpaintingOptions
    options: InpaintingOptions

    def __init__(self, options: InpaintingOptions, classes: tuple[str, ...], channels: int = 3) -> None:
        super().__init__(options, classes, channels)
        check_multiple(options.image_size, 2**LEVELS)
        self.network = PlainUNet(channels, channels, options.width, LEVELS)
        self.side = 2 * round(10 * options.image_size / 256) + 1
        for cell in options.cells:
            self.register_buffer(f"masks_{cell}", self.deal(cell))

    def deal(self, cell: int) -> Tensor:
        """Fresh masks of squares of a size: (masks, H, W) bool."""
        return disjoint_masks(self.options.image_size, self.options.image_size, cell, self.options.masks)

    def redrawn(self, images: Tensor, masks: Tensor) -> Tensor:
        """Images put together from what the network draws where each mask covers them: (N, C, H, W)."""
        count = len(masks)
        covered = (images[:, None] * (~masks)[None, :, None].to(images.dtype)).flatten(0, 1)
        drawn = self.network(covered).unflatten(0, (-1, count))
        return (drawn * masks[None, :, None].to(images.dtype)).sum(dim=1)

    def forward(self, images: Tensor) -> dict[str, Tensor]:
        maps = [msgms_map(images, self.redrawn(images, getattr(self, f"masks_{cell}"))) for cell in self.options.cells]
        heat = mean_filter(torch.stack(maps).mean(dim=0), self.side)
        return {"anomaly_score": heat.flatten(1).amax(dim=1), "anomaly_map": heat}

    def training_step(self, batch: Batch, index: int) -> Tensor:
        images, valid = batch["image"], batch["valid"]
        cell = self.options.cells[int(torch.randint(len(self.options.cells), ()))]
        redrawn = self.redrawn(images, self.deal(cell).to(images.device))
        squared = masked_mean((images - redrawn).square().mean(dim=1), valid)
        gradients = masked_mean(msgms_map(images, redrawn), valid)
        structure = masked_mean(1 - ssim_map(images, redrawn), valid)
        loss = squared + gradients + structure
        self.log_dict({"loss": loss, "l2": squared, "msgms": gradients, "ssim": structure}, prog_bar=True)
        return loss

    def configure_optimizers(self) -> dict[str, Any]:
        optimizer = torch.optim.Adam(self.parameters(), lr=self.options.learning_rate)
        return cosine_decay(optimizer, self.options.steps)

    def trainer_options(self) -> dict[str, Any]:
        return {"max_steps": self.options.steps}
