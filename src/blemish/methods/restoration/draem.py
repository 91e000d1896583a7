"""DRAEM: one network removes synthetic defects, a second learns to segment the difference."""

from typing import ClassVar

import numpy as np
import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor
from torchvision.transforms.v2 import RandAugment

from blemish.methods.base import Batch, MethodInfo, Options
from blemish.methods.common.anomaly import StepMethod, anomaly_outputs, masked_squared_error
from blemish.methods.common.blocks import PlainUNet, check_multiple, mean_filter
from blemish.methods.common.corruption import match_grey
from blemish.methods.common.losses import focal_loss, masked_mean, ssim_map
from blemish.methods.common.textures import AuxiliaryImages
from blemish.methods.restoration.restoration import LEVELS
from blemish.synthesis.noise import perlin_mask


class DraemOptions(Options):
    image_size: int = Field(128, ge=64, le=1024, description="side of the square that the network sees; paper: 256")
    batch_size: int = Field(8, ge=1, description="images in a training batch, half of them corrupted; paper: 8")
    width: int = Field(16, ge=1, description="channels of both networks' first level; paper: 128 and 64")
    steps: int = Field(800, ge=1, description="training steps; the paper's 700 epochs of 209 images: 18300")
    learning_rate: float = Field(1e-3, gt=0, description="of Adam; paper, for its long schedule: 1e-4")
    images: str = Field("", description="folder of texture pictures (paper: DTD); empty for generated textures")


class Draem(StepMethod):
    """Zavrtanik et al. 2021, "DRAEM: A Discriminatively Trained Reconstruction Embedding for Surface Anomaly
    Detection", ICCV.

    Kept: textures blended in, at an opacity of 0.1 to 1, where Perlin noise is above its threshold, on half of the
    images; a reconstructive autoencoder (L2 + SSIM) and a discriminative U-Net over image and reconstruction (focal
    loss); map = its softmax, image score = maximum of the map averaged over a square of 21 px in 256. Deviations:
    without a folder of `images` the textures are generated; images of 128 px, narrower networks, few steps, at a rate
    that starts higher and falls along a cosine; good images are not rotated.
    """

    info: ClassVar[MethodInfo] = MethodInfo(
        name="draem",
        branch="restoration",
        title="DRAEM",
        paper="Zavrtanik et al. 2021, DRAEM: A Discriminatively Trained Reconstruction Embedding for Surface Anomaly "
        "Detection, ICCV",
        requires=("good",),
        answers=("where", "how much"),
        summary="Learns on synthetic defects to restore the image and to segment what was restored; sharp maps.",
        smoke={"steps": 30, "width": 4},
    )
    Options: ClassVar[type[Options]] = DraemOptions
    options: DraemOptions

    def __init__(self, options: DraemOptions, classes: tuple[str, ...], channels: int = 3) -> None:
        super().__init__(options, classes, channels)
        check_multiple(options.image_size, 2**LEVELS)
        self.reconstructive = PlainUNet(channels, channels, options.width, LEVELS, skips=False)
        self.discriminative = PlainUNet(2 * channels, 2, options.width, LEVELS)
        self.textures = AuxiliaryImages(options.images, channels, options.image_size)
        self.side = 2 * round(10 * options.image_size / 256) + 1

    def restore_and_segment(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Restored images (N, C, H, W), and logits of good and defect (N, 2, H, W)."""
        restored = self.reconstructive(images)
        return restored, self.discriminative(torch.cat([restored, images], dim=1))

    def forward(self, images: Tensor) -> dict[str, Tensor]:
        heat = self.restore_and_segment(images)[1].softmax(dim=1)[:, 1]
        return anomaly_outputs(heat, mean_filter(heat, self.side).flatten(1).amax(dim=1))

    def compute_loss(self, batch: Batch) -> Tensor:
        images, valid = batch["image"], batch["valid"]
        corrupted, masks = self.corrupt(images)
        restored, logits = self.restore_and_segment(corrupted)
        squared = masked_squared_error(images, restored, valid)
        structure = masked_mean(1 - ssim_map(images, restored), valid)
        focal = masked_mean(focal_loss(F.cross_entropy(logits, masks.long(), reduction="none")), valid)
        self.log_dict({"l2": squared, "ssim": structure, "focal": focal}, prog_bar=True)
        return squared + structure + focal

    def corrupt(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Images of which half have synthetic defects, and the masks (N, H, W) bool of these."""
        count, size = len(images), self.options.image_size
        rng = np.random.default_rng(int(torch.randint(2**62, ())))
        noise = np.stack([perlin_mask(rng, size, size) & (rng.random() < 0.5) for _ in range(count)])
        masks = torch.from_numpy(noise).to(images.device)
        textures = match_grey(augment_textures(self.textures.sample(count)).to(images.device), images)
        opacity = 0.1 + 0.9 * torch.rand(count, 1, 1, 1, device=images.device)
        blended = (1 - opacity) * images + opacity * textures
        return torch.where(masks[:, None], blended, images), masks


def augment_textures(textures: Tensor) -> Tensor:
    """Textures after three random changes each, such as solarising, sharpening or rotating; of grey or RGB only."""
    if textures.shape[1] not in (1, 3):
        return textures
    change = RandAugment(num_ops=3)
    return torch.stack([change((255 * t).to(torch.uint8)) for t in textures]).to(textures.dtype) / 255
