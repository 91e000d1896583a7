"""Variational autoencoder: a good image is probable under what was learnt, a defect is not."""

from collections.abc import Sequence
from typing import Any, ClassVar, Literal

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor, nn

from blemish.methods.base import Batch, Method, MethodInfo, Options
from blemish.methods.common.blocks import GaussianBlur, decoder, encoder
from blemish.methods.common.losses import kl_to_standard_normal, masked_mean
from blemish.methods.common.schedule import cosine_decay


class VAEOptions(Options):
    image_size: int = Field(128, ge=32, le=1024, description="side of the square that the network sees, in px")
    score: Literal["residual", "kl", "gradient"] = Field(
        "residual", description="residual of the mean image; its KL term as image score; gradient of the ELBO as map"
    )
    dimensions: int = Field(128, ge=1, description="numbers in the bottleneck")
    width: int = Field(32, ge=1, description="channels of the first layer, doubled at each of the next three")
    deviation: float = Field(0.1, gt=0, description="standard deviation of a pixel about the rebuilt one; full scale 1")
    steps: int = Field(1000, ge=1, description="training steps")
    learning_rate: float = Field(1e-3, gt=0, description="of Adam")
    blur: float = Field(2.0, ge=0, description="sigma of the map's Gaussian, in px of the network's input")


class VAE(Method):
    """Kingma & Welling 2014, "Auto-Encoding Variational Bayes", as used by Baur et al. 2018 to find what is abnormal.

    Kept: normal posterior by reparameterisation, standard normal prior, ELBO as loss (pixels are normal with a fixed
    `deviation`); residual of the image rebuilt from the posterior's mean, in absolute value (Baur). Options: the KL
    term as image score, and the gradient of the ELBO, taken at the posterior's mean, with respect to the image as map
    (Zimmerer et al. 2019, "Unsupervised Anomaly Localization using Variational Auto-Encoders"), written out by the
    chain rule so that it is part of the graph that ships. Deviations: a DCGAN for the network; the map is smoothed and
    its maximum is the image score.
    """

    info: ClassVar[MethodInfo] = MethodInfo(
        name="vae",
        branch="reconstruction",
        title="Variational autoencoder",
        paper="Kingma & Welling 2014, Auto-Encoding Variational Bayes; Baur et al. 2018, Deep Autoencoding Models for "
        "Unsupervised Anomaly Segmentation in Brain MR Images",
        requires=("good",),
        answers=("where", "how much"),
        summary="An autoencoder whose bottleneck is a distribution; blurred good twins, no sharp detail.",
        smoke={"steps": 60, "width": 8},
    )
    Options: ClassVar[type[Options]] = VAEOptions
    options: VAEOptions

    def __init__(self, options: VAEOptions, classes: tuple[str, ...], channels: int = 3) -> None:
        super().__init__(options, classes, channels)
        self.encoder = encoder(channels, options.image_size, options.width, 2 * options.dimensions)
        self.decoder = decoder(options.dimensions, channels, options.image_size, options.width)
        self.blur = GaussianBlur(options.blur)

    def posterior(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Mean and log variance of the bottleneck: twice (N, D)."""
        mean, log_variance = self.encoder(images).flatten(1).chunk(2, dim=1)
        return mean, log_variance.clamp(-10, 10)

    def rebuilt(self, code: Tensor) -> Tensor:
        return self.decoder(code[:, :, None, None])

    def forward(self, images: Tensor) -> dict[str, Tensor]:
        if self.options.score == "gradient":
            heat = self.blur(self.elbo_gradient(images).abs().mean(dim=1))
            return {"anomaly_score": heat.flatten(1).amax(dim=1), "anomaly_map": heat}
        mean, log_variance = self.posterior(images)
        heat = self.blur((images - self.rebuilt(mean)).abs().mean(dim=1))
        by_kl = self.options.score == "kl"
        score = kl_to_standard_normal(mean, log_variance) if by_kl else heat.flatten(1).amax(dim=1)
        return {"anomaly_score": score, "anomaly_map": heat}

    def elbo_gradient(self, images: Tensor) -> Tensor:
        """Gradient of the negative ELBO, at the posterior's mean, with respect to the image: (N, C, H, W).

        In nats for a change of the pixel by full scale. `forward` cannot ask autograd, which does not export.
        """
        encoded = _through(self.encoder, images)
        mean, raw = encoded[-1].chunk(2, dim=1)
        log_variance = raw.clamp(-10, 10)
        decoded = _through(self.decoder, mean)
        residual = (images - decoded[-1]) / self.options.deviation**2
        to_mean = mean + pull_back(self.decoder, decoded, -residual)
        to_log_variance = 0.5 * (log_variance.exp() - 1) * (raw.abs() < 10).to(raw.dtype)
        return residual + pull_back(self.encoder, encoded, torch.cat([to_mean, to_log_variance], dim=1))

    def training_step(self, batch: Batch, index: int) -> Tensor:
        images = batch["image"]
        mean, log_variance = self.posterior(images)
        code = mean + torch.randn_like(mean) * (0.5 * log_variance).exp()
        squared = masked_mean((images - self.rebuilt(code)).square().sum(dim=1), batch["valid"])
        pixels = images.shape[-2] * images.shape[-1]
        misfit = 0.5 * pixels * squared / self.options.deviation**2
        divergence = kl_to_standard_normal(mean, log_variance).mean()
        self.log_dict({"loss": misfit + divergence, "kl": divergence}, prog_bar=True)
        return (misfit + divergence) / pixels  # the gradient's scale then does not depend on the image's size

    def configure_optimizers(self) -> dict[str, Any]:
        optimizer = torch.optim.Adam(self.parameters(), lr=self.options.learning_rate)
        return cosine_decay(optimizer, self.options.steps)

    def trainer_options(self) -> dict[str, Any]:
        return {"max_steps": self.options.steps}


def _through(layers: nn.Sequential, x: Tensor) -> list[Tensor]:
    """The input of the first layer and the output of each."""
    found = [x]
    for layer in layers:
        found.append(layer(found[-1]))
    return found


def pull_back(layers: nn.Sequential, outputs: Sequence[Tensor], gradient: Tensor) -> Tensor:
    """The chain rule by hand, in evaluation mode: the gradient at the output of the layers to that at their input.

    `outputs` are those of `_through`. Knows the layers of `blocks.encoder` and `blocks.decoder`.
    """
    for layer, before, after in reversed(list(zip(layers, outputs[:-1], outputs[1:], strict=True))):
        if isinstance(layer, nn.Conv2d):
            gradient = F.conv_transpose2d(gradient, layer.weight, stride=layer.stride, padding=layer.padding)
        elif isinstance(layer, nn.ConvTranspose2d):
            gradient = F.conv2d(gradient, layer.weight, stride=layer.stride, padding=layer.padding)
        elif isinstance(layer, nn.BatchNorm2d):
            gradient = gradient * (layer.weight / (layer.running_var + layer.eps).sqrt()).view(1, -1, 1, 1)
        elif isinstance(layer, nn.LeakyReLU):
            gradient = torch.where(before > 0, gradient, layer.negative_slope * gradient)
        elif isinstance(layer, nn.ReLU):
            gradient = torch.where(before > 0, gradient, torch.zeros_like(gradient))
        elif isinstance(layer, nn.Sigmoid):
            gradient = gradient * after * (1 - after)
        else:
            raise TypeError(f"no rule for {type(layer).__name__}")
    return gradient
