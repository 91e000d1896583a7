"""Adversarial autoencoder: an autoencoder whose codes a discriminator cannot tell from normal random numbers."""

from typing import Any, ClassVar

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor, nn

from blemish.methods.base import Batch, Method, MethodInfo, Options
from blemish.methods.common.blocks import GaussianBlur, decoder, encoder
from blemish.methods.common.losses import masked_mean


class AAEOptions(Options):
    image_size: int = Field(128, ge=32, le=1024, description="side of the square that the network sees, in px")
    dimensions: int = Field(64, ge=1, description="numbers in the bottleneck")
    width: int = Field(32, ge=1, description="channels of the first layer, doubled at each of the next three")
    hidden: int = Field(256, ge=1, description="units in the two layers of the codes' discriminator")
    steps: int = Field(1000, ge=1, description="training steps, each of three phases")
    learning_rate: float = Field(1e-3, gt=0, description="of Adam for the rebuilding; a tenth of it for both opponents")
    blur: float = Field(2.0, ge=0, description="sigma of the map's Gaussian, in px of the network's input")


class AAE(Method):
    """Makhzani et al. 2016, "Adversarial Autoencoders"; Baur et al. 2018 find with it what is abnormal in images.

    Chosen as the second union of autoencoder and GAN because here the opponents play over a hundred numbers and not
    over images: that costs next to nothing, is stable in short runs, and does what matters for inspection: codes fill
    the prior without gaps, so that whatever is rebuilt looks good. (VAE-GAN's discriminator of images costs as much as
    the autoencoder does again.)

    Kept: deterministic encoder; in turn a rebuilding phase, a phase of the discriminator (codes against standard normal
    numbers, cross-entropy) and a phase of the encoder against it; residual in absolute value. Deviations: DCGAN for the
    network; the rates fall along a cosine; the map is smoothed, and its maximum is the image score.
    """

    info: ClassVar[MethodInfo] = MethodInfo(
        name="aae",
        branch="reconstruction",
        title="Adversarial autoencoder",
        paper="Makhzani et al. 2016, Adversarial Autoencoders; Baur et al. 2018, Deep Autoencoding Models for "
        "Unsupervised Anomaly Segmentation in Brain MR Images",
        requires=("good",),
        answers=("where", "how much"),
        summary="Autoencoder and GAN over the codes: only what looks good can be rebuilt.",
        smoke={"steps": 60, "width": 8},
    )
    Options: ClassVar[type[Options]] = AAEOptions
    options: AAEOptions

    def __init__(self, options: AAEOptions, classes: tuple[str, ...], channels: int = 3) -> None:
        super().__init__(options, classes, channels)
        self.automatic_optimization = False
        self.encoder = encoder(channels, options.image_size, options.width, options.dimensions)
        self.decoder = decoder(options.dimensions, channels, options.image_size, options.width)
        self.discriminator = nn.Sequential(
            nn.Linear(options.dimensions, options.hidden),
            nn.LeakyReLU(0.2),
            nn.Linear(options.hidden, options.hidden),
            nn.LeakyReLU(0.2),
            nn.Linear(options.hidden, 1),
        )
        self.blur = GaussianBlur(options.blur)

    def residual(self, images: Tensor) -> Tensor:
        return (images - self.decoder(self.encoder(images))).abs().mean(dim=1)

    def forward(self, images: Tensor) -> dict[str, Tensor]:
        heat = self.blur(self.residual(images))
        return {"anomaly_score": heat.flatten(1).amax(dim=1), "anomaly_map": heat}

    def training_step(self, batch: Batch, index: int) -> None:
        images = batch["image"]
        rebuilding, judging, deceiving = self.optimizers()

        code = self.encoder(images)
        squared = masked_mean((images - self.decoder(code)).square().mean(dim=1), batch["valid"])
        rebuilding.zero_grad()
        self.manual_backward(squared)
        rebuilding.step()

        code = self.encoder(images).flatten(1)
        drawn, learnt = self.discriminator(torch.randn_like(code)), self.discriminator(code.detach())
        judged = 0.5 * (
            F.binary_cross_entropy_with_logits(drawn, torch.ones_like(drawn))
            + F.binary_cross_entropy_with_logits(learnt, torch.zeros_like(learnt))
        )
        judging.zero_grad()
        self.manual_backward(judged)
        judging.step()

        taken = self.discriminator(code)
        deceived = F.binary_cross_entropy_with_logits(taken, torch.ones_like(taken))
        deceiving.zero_grad()
        self.manual_backward(deceived)
        deceiving.step()
        for schedule in self.lr_schedulers():
            schedule.step()
        self.log_dict({"loss": squared, "discriminator": judged, "encoder": deceived}, prog_bar=True)

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
