"""f-AnoGAN: a GAN that generates good images, and an encoder that finds the generated image nearest to a given one."""

from typing import Any, ClassVar, Literal

import torch
from pydantic import Field
from torch import Tensor, nn

from blemish.methods.base import Batch, MethodInfo, Options, graph_score_only, ignored_when
from blemish.methods.common.anomaly import (
    blur_option,
    masked_squared_error,
    residual_map,
    side_option,
    worst_share_option,
)
from blemish.methods.common.blocks import GaussianBlur, PatchGrid, dcgan_decoder, dcgan_encoder
from blemish.methods.common.losses import gradient_penalty
from blemish.methods.common.standardise import MapMethod, MapOptions
from blemish.methods.reconstruction.adversarial import AdversarialMethod

CRITIC_STEPS = 5  # steps of the critic for one of the generator
PENALTY = 10.0


class FAnoGANOptions(MapOptions):
    image_size: int = side_option(64)
    patch: int = Field(0, ge=0, description="side of the squares that are generated, 16, 32, 64 ... px; 0: whole image")
    dimensions: int = Field(128, ge=1, description="random numbers that an image is generated from")
    width: int = Field(
        32, ge=1, description="channels of the first layer, doubled at each of the next three; paper: 64"
    )
    score: Literal["map", "image"] = Field(
        "map",
        description="image score: the map's maximum, or residual and features of the whole image as in the paper",
        json_schema_extra=graph_score_only("image"),
    )
    worst_share: float = worst_share_option(0.0, ignored_when("score", "image"))
    gan_steps: int = Field(600, ge=1, description="steps of the generator, five of the critic to each; paper: 100000")
    steps: int = Field(700, ge=1, description="steps of the encoder; paper: 50000")
    learning_rate: float = Field(1e-4, gt=0, description="of Adam (0, 0.9) for generator and critic")
    encoder_rate: float = Field(1e-3, gt=0, description="of Adam for the encoder; paper: 5e-5")
    feature_weight: float = Field(1.0, ge=0, description="weight of the critic's features in loss and score (kappa)")
    blur: float = blur_option(1.0)


class FAnoGAN(MapMethod, AdversarialMethod):
    """Schlegl et al. 2019, "f-AnoGAN: Fast Unsupervised Anomaly Detection with Generative Adversarial Networks".

    Kept: Wasserstein GAN with gradient penalty 10, five critic steps to one of the generator; then, both frozen, an
    encoder learns by the izi_f loss (image to code to image: mean squared residual of the image, plus kappa times that
    of the critic's features); image score = the same sum, an option; map = absolute residual. Nothing is optimised in
    inspection, so all of it is one graph. Deviations: codes are uniform from -1 to 1, the range of the encoder's
    tanh (the authors' code: from a normal distribution); DCGAN's layers in place of residual ones, normalised in the
    critic by layer and not by batch; images of 64 px whole by default, or patches, whose scores are averaged; far fewer
    steps; the border is mirrored; the map is standardised by held-out good images (`standardise=none`: not) and its
    maximum is the image score, because in the sum over a whole image a small defect drowns among
    the edges that the generator does not reproduce.
    """

    info: ClassVar[MethodInfo] = MethodInfo(
        name="f-anogan",
        branch="reconstruction",
        title="f-AnoGAN",
        paper="Schlegl et al. 2019, f-AnoGAN: Fast Unsupervised Anomaly Detection with Generative Adversarial Networks",
        requires=("good",),
        answers=("where",),
        summary="A GAN generates the nearest good image; needs long training to generate well.",
        smoke={"gan_steps": 8, "steps": 40, "width": 8},
    )
    Options: ClassVar[type[Options]] = FAnoGANOptions
    options: FAnoGANOptions

    def __init__(self, options: FAnoGANOptions, classes: tuple[str, ...], channels: int = 3) -> None:
        super().__init__(options, classes, channels)
        self.patches = PatchGrid(options.image_size, options.patch)
        side, width = self.patches.side, options.width
        self.generator = dcgan_decoder(options.dimensions, channels, side, width)
        *features, last = dcgan_encoder(channels, side, width, 1, norm=layer_norm)
        self.features, self.last = nn.Sequential(*features), last
        self.encoder = nn.Sequential(dcgan_encoder(channels, side, width, options.dimensions), nn.Tanh())
        self.blur = GaussianBlur(options.blur)

    def critic(self, images: Tensor) -> Tensor:
        """(N,) high for good images, low for generated ones."""
        return self.last(self.features(images)).flatten()

    def reconstruct(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Images generated from the codes of images, and the mean squared distances (N,) of the critic's features."""
        generated = self.generator(self.encoder(images))
        return generated, (self.features(images) - self.features(generated)).square().mean(dim=(1, 2, 3))

    def map_and_score(self, images: Tensor) -> tuple[Tensor, Tensor | None]:
        patches = self.patches.split(images)
        generated, distance = self.reconstruct(patches)
        heat = self.blur(self.patches.join(residual_map(patches, generated)))
        if self.options.score == "map":
            return heat, None
        scores = (patches - generated).square().mean(dim=(1, 2, 3)) + self.options.feature_weight * distance
        return heat, scores.view(-1, len(self.patches.corners)).mean(dim=1)

    @property
    def gan_total(self) -> int:
        """Optimiser steps of the first stage."""
        return (CRITIC_STEPS + 1) * self.options.gan_steps

    def training_step(self, batch: Batch, index: int) -> None:
        images, valid = self.patches.random(batch["image"], batch["valid"])
        if self.global_step < self.gan_total:
            self._gan_step(images)
        else:
            self._encoder_step(images, valid)

    def _gan_step(self, images: Tensor) -> None:
        generator, critic, _ = self.all_optimizers
        last_of_round = self.global_step % (CRITIC_STEPS + 1) == CRITIC_STEPS - 1
        with torch.no_grad():
            generated = self._generate(images)
        distance = self.critic(images).mean() - self.critic(generated).mean()
        self.minimize(PENALTY * gradient_penalty(self.critic, images, generated) - distance, critic)
        self.log("distance", distance, prog_bar=True)
        if last_of_round:
            self.minimize(-self.critic(self._generate(images)).mean(), generator)

    def _generate(self, images: Tensor) -> Tensor:
        """Generated images, one for each image, from uniform codes in [-1, 1], the range of the encoder's tanh."""
        return self.generator(2 * torch.rand(len(images), self.options.dimensions, 1, 1, device=images.device) - 1)

    def _encoder_step(self, images: Tensor, valid: Tensor) -> None:
        optimizer = self.all_optimizers[2]
        self.generator.eval()
        generated, distance = self.reconstruct(images)
        loss = masked_squared_error(images, generated, valid) + self.options.feature_weight * distance.mean()
        self.minimize(loss, optimizer)
        done = (self.global_step - self.gan_total) / self.options.steps
        for group in optimizer.param_groups:
            group["lr"] = self.options.encoder_rate * (1.0 if done < 0.7 else 0.1)
        self.log("loss", loss, prog_bar=True)

    def configure_optimizers(self) -> list[torch.optim.Optimizer]:
        critic = [*self.features.parameters(), *self.last.parameters()]
        rate = self.options.learning_rate
        return [
            torch.optim.Adam(self.generator.parameters(), lr=rate, betas=(0.0, 0.9)),
            torch.optim.Adam(critic, lr=rate, betas=(0.0, 0.9)),
            torch.optim.Adam(self.encoder.parameters(), lr=self.options.encoder_rate),
        ]

    def trainer_options(self) -> dict[str, Any]:
        return {"max_steps": self.gan_total + self.options.steps}


def layer_norm(channels: int) -> nn.Module:
    """Normalises each image by itself, as the gradient penalty requires."""
    return nn.GroupNorm(1, channels)
