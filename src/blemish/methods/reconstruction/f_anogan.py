"""f-AnoGAN: a GAN that has learnt to draw good images, and an encoder that finds the drawing nearest to an image."""

from typing import Any, ClassVar, Literal

import torch
from pydantic import Field
from torch import Tensor, nn

from blemish.methods.base import Batch, Method, MethodInfo, Options
from blemish.methods.common.blocks import GaussianBlur, PatchGrid, decoder, encoder
from blemish.methods.common.losses import gradient_penalty, masked_mean

CRITIC_STEPS = 5  # steps of the critic for one of the generator
PENALTY = 10.0


class FAnoGANOptions(Options):
    image_size: int = Field(64, ge=32, le=1024, description="side of the square that the network sees, in px")
    patch: int = Field(0, ge=0, description="side of the squares that are drawn, 16, 32, 64 ... px; 0: whole image")
    dimensions: int = Field(128, ge=1, description="random numbers that an image is drawn from")
    width: int = Field(
        32, ge=1, description="channels of the first layer, doubled at each of the next three; paper: 64"
    )
    score: Literal["map", "image"] = Field(
        "map", description="image score: the map's maximum, or residual and features of the whole image as in the paper"
    )
    gan_steps: int = Field(600, ge=1, description="steps of the generator, five of the critic to each; paper: 100000")
    steps: int = Field(700, ge=1, description="steps of the encoder; paper: 50000")
    learning_rate: float = Field(1e-4, gt=0, description="of Adam (0, 0.9) for generator and critic")
    encoder_rate: float = Field(1e-3, gt=0, description="of Adam for the encoder; paper: 5e-5")
    feature_weight: float = Field(1.0, ge=0, description="weight of the critic's features in loss and score (kappa)")
    blur: float = Field(1.0, ge=0, description="sigma of the map's Gaussian, in px of the network's input")


class FAnoGAN(Method):
    """Schlegl et al. 2019, "f-AnoGAN: Fast Unsupervised Anomaly Detection with Generative Adversarial Networks".

    Kept: Wasserstein GAN with gradient penalty 10, five critic steps to one of the generator; then, both frozen, an
    encoder learns by the izi_f loss (image to code to image: mean squared residual of the image, plus kappa times that
    of the critic's features); image score = the same sum, an option; map = absolute residual. Nothing is searched in
    inspection, so all of it is one graph. Deviations: codes are drawn evenly from -1 to 1, the range of the encoder's
    tanh (the authors' code: from a normal distribution); DCGAN's layers in place of residual ones, normalised in the
    critic by layer and not by batch; images of 64 px whole by default, or patches, whose scores are averaged; far fewer
    steps; the image score is the map's maximum, for in the sum over a whole picture a small defect drowns among the
    edges that the generator does not meet.
    """

    info: ClassVar[MethodInfo] = MethodInfo(
        name="f-anogan",
        branch="reconstruction",
        title="f-AnoGAN",
        paper="Schlegl et al. 2019, f-AnoGAN: Fast Unsupervised Anomaly Detection with Generative Adversarial Networks",
        requires=("good",),
        answers=("where",),
        summary="A GAN draws the nearest good image; needs long training to draw well.",
        smoke={"gan_steps": 8, "steps": 40, "width": 8},
    )
    Options: ClassVar[type[Options]] = FAnoGANOptions
    options: FAnoGANOptions

    def __init__(self, options: FAnoGANOptions, classes: tuple[str, ...], channels: int = 3) -> None:
        super().__init__(options, classes, channels)
        self.automatic_optimization = False
        self.patches = PatchGrid(options.image_size, options.patch)
        side, width = self.patches.side, options.width
        self.generator = decoder(options.dimensions, channels, side, width)
        *features, last = encoder(channels, side, width, 1, norm=_layer_norm)
        self.features, self.verdict = nn.Sequential(*features), last
        self.encoder = nn.Sequential(encoder(channels, side, width, options.dimensions), nn.Tanh())
        self.blur = GaussianBlur(options.blur)

    def critic(self, images: Tensor) -> Tensor:
        """(N,) high for good images, low for drawn ones."""
        return self.verdict(self.features(images)).flatten()

    def compared(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """The image drawn from the code, and (N,) mean squared distance of its features to the image's."""
        drawn = self.generator(self.encoder(images))
        return drawn, (self.features(images) - self.features(drawn)).square().mean(dim=(1, 2, 3))

    def forward(self, images: Tensor) -> dict[str, Tensor]:
        parts = self.patches.split(images)
        drawn, distance = self.compared(parts)
        heat = self.blur(self.patches.join((parts - drawn).abs().mean(dim=1)))
        if self.options.score == "map":
            return {"anomaly_score": heat.flatten(1).amax(dim=1), "anomaly_map": heat}
        scores = (parts - drawn).square().mean(dim=(1, 2, 3)) + self.options.feature_weight * distance
        return {"anomaly_score": scores.view(-1, len(self.patches.corners)).mean(dim=1), "anomaly_map": heat}

    @property
    def gan_total(self) -> int:
        """Optimiser steps of the first stage."""
        return (CRITIC_STEPS + 1) * self.options.gan_steps

    def training_step(self, batch: Batch, index: int) -> None:
        images, valid = self.patches.random(batch["image"], batch["valid"])
        if self.global_step < self.gan_total:
            self._play(images)
        else:
            self._encode(images, valid)

    def _play(self, images: Tensor) -> None:
        generating, judging, _ = self.optimizers()
        last_of_round = self.global_step % (CRITIC_STEPS + 1) == CRITIC_STEPS - 1
        with torch.no_grad():
            drawn = self._draw(images)
        distance = self.critic(images).mean() - self.critic(drawn).mean()
        judging.zero_grad()
        self.manual_backward(PENALTY * gradient_penalty(self.critic, images, drawn) - distance)
        judging.step()
        self.log("distance", distance, prog_bar=True)
        if last_of_round:
            generating.zero_grad()
            self.manual_backward(-self.critic(self._draw(images)).mean())
            generating.step()

    def _draw(self, images: Tensor) -> Tensor:
        """As many drawn images, from uniform numbers between -1 and 1, which is what the encoder's tanh can say."""
        return self.generator(2 * torch.rand(len(images), self.options.dimensions, 1, 1, device=images.device) - 1)

    def _encode(self, images: Tensor, valid: Tensor) -> None:
        optimizer = self.optimizers()[2]
        self.generator.eval()
        drawn, distance = self.compared(images)
        residual = masked_mean((images - drawn).square().mean(dim=1), valid)
        loss = residual + self.options.feature_weight * distance.mean()
        optimizer.zero_grad()
        self.manual_backward(loss)
        optimizer.step()
        done = (self.global_step - self.gan_total) / self.options.steps
        for group in optimizer.param_groups:
            group["lr"] = self.options.encoder_rate * (1.0 if done < 0.7 else 0.1)
        self.log("loss", loss, prog_bar=True)

    def configure_optimizers(self) -> list[torch.optim.Optimizer]:
        judges = [*self.features.parameters(), *self.verdict.parameters()]
        rate = self.options.learning_rate
        return [
            torch.optim.Adam(self.generator.parameters(), lr=rate, betas=(0.0, 0.9)),
            torch.optim.Adam(judges, lr=rate, betas=(0.0, 0.9)),
            torch.optim.Adam(self.encoder.parameters(), lr=self.options.encoder_rate),
        ]

    def trainer_options(self) -> dict[str, Any]:
        return {"max_steps": self.gan_total + self.options.steps}


def _layer_norm(channels: int) -> nn.Module:
    """Normalises each image by itself, as the gradient penalty wants it."""
    return nn.GroupNorm(1, channels)
