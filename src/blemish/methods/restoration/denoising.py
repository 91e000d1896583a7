"""Denoising autoencoder: a network that takes coarse noise off good images takes defects off too."""

from typing import Any, ClassVar

import torch
from pydantic import Field
from torch import Tensor

from blemish.methods.base import Batch, Method, MethodInfo, Options
from blemish.methods.common.blocks import GaussianBlur, PlainUNet, check_multiple
from blemish.methods.common.losses import masked_mean
from blemish.methods.common.schedule import cosine_decay
from blemish.synthesis.corruption import coarse_noise

LEVELS = 4


class DenoisingOptions(Options):
    image_size: int = Field(128, ge=32, le=1024, description="side of the square that the network sees, in px")
    batch_size: int = Field(8, ge=1, description="images in a training batch; paper: 16")
    cells: int = Field(16, ge=2, description="grid along a side on which the noise is drawn, before it is enlarged")
    noise: float = Field(0.2, gt=0, description="standard deviation of the noise; full scale 1")
    width: int = Field(16, ge=1, description="channels of the U-Net's first level, doubled at each next; paper: 64")
    steps: int = Field(800, ge=1, description="training steps; paper: 67200")
    learning_rate: float = Field(1e-3, gt=0, description="of Adam")
    blur: float = Field(2.0, ge=0, description="sigma of the map's Gaussian, in px of the network's input")


class DenoisingAutoencoder(Method):
    """Kascenas et al. 2022, "Denoising Autoencoders for Unsupervised Anomaly Detection in Brain MRI", MIDL.

    Kept: U-Net with skips; Gaussian noise of deviation 0.2 drawn on 16 x 16 cells and enlarged, at a random shift; L2
    loss against the clean image; Adam (AMSGrad) with the rate falling along a cosine; no noise in inspection; map =
    absolute residual. Deviations: BatchNorm and ReLU; a quarter of the width and few steps; noise everywhere and not
    only before a dark ground; a Gaussian for the paper's median filter; the image score is the map's maximum (the
    paper judges pixels).
    """

    info: ClassVar[MethodInfo] = MethodInfo(
        name="denoising-autoencoder",
        branch="restoration",
        title="Denoising autoencoder",
        paper="Kascenas et al. 2022, Denoising Autoencoders for Unsupervised Anomaly Detection in Brain MRI, MIDL",
        requires=("good",),
        answers=("where", "how much"),
        summary="A U-Net learns to take off coarse noise and takes defects for such.",
        smoke={"steps": 40, "width": 4},
    )
    Options: ClassVar[type[Options]] = DenoisingOptions
    options: DenoisingOptions

    def __init__(self, options: DenoisingOptions, classes: tuple[str, ...], channels: int = 3) -> None:
        super().__init__(options, classes, channels)
        check_multiple(options.image_size, 2**LEVELS)
        self.network = PlainUNet(channels, channels, options.width, LEVELS)
        self.blur = GaussianBlur(options.blur)

    def forward(self, images: Tensor) -> dict[str, Tensor]:
        heat = self.blur((images - self.network(images)).abs().mean(dim=1))
        return {"anomaly_score": heat.flatten(1).amax(dim=1), "anomaly_map": heat}

    def training_step(self, batch: Batch, index: int) -> Tensor:
        images = batch["image"]
        restored = self.network(coarse_noise(images, self.options.cells, self.options.noise))
        loss = masked_mean((images - restored).square().mean(dim=1), batch["valid"])
        self.log("loss", loss, prog_bar=True)
        return loss

    def configure_optimizers(self) -> dict[str, Any]:
        optimizer = torch.optim.Adam(self.parameters(), lr=self.options.learning_rate, amsgrad=True)
        return cosine_decay(optimizer, self.options.steps)

    def trainer_options(self) -> dict[str, Any]:
        return {"max_steps": self.options.steps}
