"""Deblurring: a network that has learnt the fine detail of good images cannot bring back that of a defect."""

from typing import Any, ClassVar

import torch
from pydantic import Field
from torch import Tensor

from blemish.methods.base import Batch, Method, MethodInfo, Options
from blemish.methods.common.blocks import GaussianBlur, PlainUNet, check_multiple
from blemish.methods.common.losses import masked_mean, msgms_map
from blemish.methods.common.schedule import cosine_decay

LEVELS = 4


class DeblurringOptions(Options):
    image_size: int = Field(128, ge=32, le=1024, description="side of the square that the network sees, in px")
    batch_size: int = Field(8, ge=1, description="images in a training batch")
    sigma: float = Field(6.0, gt=0, description="of the Gaussian that spoils the image, in px of the network's input")
    width: int = Field(16, ge=1, description="channels of the U-Net's first level, doubled at each next")
    steps: int = Field(800, ge=1, description="training steps")
    learning_rate: float = Field(1e-3, gt=0, description="of Adam")
    blur: float = Field(2.0, ge=0, description="sigma of the map's Gaussian, in px of the network's input")


class Deblurring(Method):
    """The denoising autoencoder of Kascenas et al. 2022 with artificial blur for the corruption.

    A U-Net learns to undo a Gaussian of fixed sigma on good images, in L2. Unlike noise, blur is put on in inspection
    too: it takes the defect's detail away, and the network gives back the good one. Not from a paper of its own: the
    map is the multi-scale gradient magnitude distance of RIAD (Zavrtanik et al. 2021), since gradients are what was
    lost and found again; image score = its maximum.
    """

    info: ClassVar[MethodInfo] = MethodInfo(
        name="deblurring",
        branch="restoration",
        title="Deblurring",
        paper="after Kascenas et al. 2022, Denoising Autoencoders for Unsupervised Anomaly Detection in Brain MRI",
        requires=("good",),
        answers=("where", "how much"),
        summary="A U-Net learns to sharpen blurred good images; sees fine defects, not large soft ones.",
        smoke={"steps": 30, "width": 4},
        never_advised="a variant of denoising-autoencoder, which is advised",
    )
    Options: ClassVar[type[Options]] = DeblurringOptions
    options: DeblurringOptions

    def __init__(self, options: DeblurringOptions, classes: tuple[str, ...], channels: int = 3) -> None:
        super().__init__(options, classes, channels)
        check_multiple(options.image_size, 2**LEVELS)
        self.spoil = GaussianBlur(options.sigma)
        self.network = PlainUNet(channels, channels, options.width, LEVELS)
        self.blur = GaussianBlur(options.blur)

    def restored(self, images: Tensor) -> Tensor:
        """Images blurred and sharpened again."""
        return self.network(self.spoil(images.flatten(0, 1)).view(images.shape))

    def forward(self, images: Tensor) -> dict[str, Tensor]:
        heat = self.blur(msgms_map(images, self.restored(images)))
        return {"anomaly_score": heat.flatten(1).amax(dim=1), "anomaly_map": heat}

    def training_step(self, batch: Batch, index: int) -> Tensor:
        images = batch["image"]
        loss = masked_mean((images - self.restored(images)).square().mean(dim=1), batch["valid"])
        self.log("loss", loss, prog_bar=True)
        return loss

    def configure_optimizers(self) -> dict[str, Any]:
        optimizer = torch.optim.Adam(self.parameters(), lr=self.options.learning_rate, amsgrad=True)
        return cosine_decay(optimizer, self.options.steps)

    def trainer_options(self) -> dict[str, Any]:
        return {"max_steps": self.options.steps}
