"""Adversarial autoencoder: an autoencoder whose codes a discriminator cannot distinguish from normal random numbers."""

from typing import Any, ClassVar

import torch
from pydantic import Field
from torch import Tensor, nn

from blemish.methods.base import Batch, MethodInfo, Options
from blemish.methods.common.anomaly import blur_option, masked_squared_error, residual_map, side_option
from blemish.methods.common.blocks import GaussianBlur, dcgan_decoder, dcgan_encoder
from blemish.methods.common.standardise import MapMethod, MapOptions
from blemish.methods.reconstruction.adversarial import AdversarialMethod, discriminator_loss, real_loss


class AAEOptions(MapOptions):
    image_size: int = side_option(128)
    dimensions: int = Field(64, ge=1, description="numbers in the bottleneck")
    width: int = Field(32, ge=1, description="channels of the first layer, doubled at each of the next three")
    hidden: int = Field(256, ge=1, description="units in the two layers of the codes' discriminator")
    steps: int = Field(1000, ge=1, description="training steps, each of three phases")
    learning_rate: float = Field(
        1e-3, gt=0, description="of Adam for the reconstruction; a tenth of it for discriminator and encoder"
    )
    blur: float = blur_option(2.0)


class AAE(MapMethod, AdversarialMethod):
    """Makhzani et al. 2016, "Adversarial Autoencoders", as used for anomaly detection by Baur et al. 2018.

    Included as a second combination of autoencoder and GAN because its discriminator sees a hundred numbers instead of
    images: that costs next to nothing, is stable in short runs, and is enough for inspection: codes fill the prior
    without gaps, so that every reconstruction looks good. (VAE-GAN's discriminator of images costs as much as
    the autoencoder does again.)

    Kept: deterministic encoder; in turn a reconstruction phase, a phase of the discriminator (codes against standard
    normal numbers, cross-entropy) and a phase of the encoder against it; residual in absolute value. Deviations: DCGAN
    for the network, the border mirrored; the rates fall along a cosine; the map is smoothed and standardised by
    held-out good images (`standardise=none`: not), and its maximum is the image score.
    """

    info: ClassVar[MethodInfo] = MethodInfo(
        name="aae",
        branch="reconstruction",
        title="Adversarial autoencoder",
        paper="Makhzani et al. 2016, Adversarial Autoencoders; Baur et al. 2018, Deep Autoencoding Models for "
        "Unsupervised Anomaly Segmentation in Brain MR Images",
        requires=("good",),
        answers=("where", "how much"),
        summary="Autoencoder and GAN over the codes: only good-looking images can be reconstructed.",
        smoke={"steps": 60, "width": 8},
    )
    Options: ClassVar[type[Options]] = AAEOptions
    options: AAEOptions

    def __init__(self, options: AAEOptions, classes: tuple[str, ...], channels: int = 3) -> None:
        super().__init__(options, classes, channels)
        self.encoder = dcgan_encoder(channels, options.image_size, options.width, options.dimensions)
        self.decoder = dcgan_decoder(options.dimensions, channels, options.image_size, options.width)
        self.discriminator = nn.Sequential(
            nn.Linear(options.dimensions, options.hidden),
            nn.LeakyReLU(0.2),
            nn.Linear(options.hidden, options.hidden),
            nn.LeakyReLU(0.2),
            nn.Linear(options.hidden, 1),
        )
        self.blur = GaussianBlur(options.blur)

    def map_and_score(self, images: Tensor) -> tuple[Tensor, None]:
        return self.blur(residual_map(images, self.decoder(self.encoder(images)))), None

    def training_step(self, batch: Batch, index: int) -> None:
        images = batch["image"]
        reconstruction, discriminator, generator = self.all_optimizers

        restored = self.decoder(self.encoder(images))
        squared = masked_squared_error(images, restored, batch["valid"])
        self.minimize(squared, reconstruction)

        code = self.encoder(images).flatten(1)
        real, fake = self.discriminator(torch.randn_like(code)), self.discriminator(code.detach())
        discrimination = discriminator_loss(real, fake)
        self.minimize(discrimination, discriminator)

        deception = real_loss(self.discriminator(code))
        self.minimize(deception, generator)
        for schedule in self.all_schedulers:
            schedule.step()
        self.log_dict({"loss": squared, "discriminator": discrimination, "encoder": deception}, prog_bar=True)

    def configure_optimizers(self) -> tuple[list[torch.optim.Optimizer], list[Any]]:
        rate = self.options.learning_rate
        optimizers: list[torch.optim.Optimizer] = [
            torch.optim.Adam([*self.encoder.parameters(), *self.decoder.parameters()], lr=rate),
            torch.optim.Adam(self.discriminator.parameters(), lr=0.1 * rate, betas=(0.5, 0.999)),
            torch.optim.Adam(self.encoder.parameters(), lr=0.1 * rate, betas=(0.5, 0.999)),
        ]
        return optimizers, [torch.optim.lr_scheduler.CosineAnnealingLR(o, self.options.steps) for o in optimizers]

    def trainer_options(self) -> dict[str, Any]:
        return {"max_steps": 3 * self.options.steps}  # Lightning counts the steps of all three optimisers
