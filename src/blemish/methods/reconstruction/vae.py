"""Variational autoencoder: a good image is probable under the learned distribution, a defect is not."""

from collections.abc import Sequence
from typing import ClassVar, Literal

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor, nn

from blemish.methods.base import Batch, MethodInfo, Options, graph_score_only, ignored_when
from blemish.methods.common.anomaly import StepMethod, blur_option, residual_map, side_option, worst_share_option
from blemish.methods.common.blocks import DoublingConv, GaussianBlur, dcgan_decoder, dcgan_encoder
from blemish.methods.common.losses import kl_to_standard_normal, masked_mean
from blemish.methods.common.standardise import MapMethod, MapOptions


class VAEOptions(MapOptions):
    image_size: int = side_option(128)
    score: Literal["residual", "kl", "gradient"] = Field(
        "residual",
        description="residual of the mean image; its KL term as image score; gradient of the ELBO as map",
        json_schema_extra=graph_score_only("kl"),
    )
    worst_share: float = worst_share_option(0.0, ignored_when("score", "kl"))
    dimensions: int = Field(128, ge=1, description="numbers in the bottleneck")
    width: int = Field(32, ge=1, description="channels of the first layer, doubled at each of the next three")
    deviation: float = Field(
        0.1, gt=0, description="standard deviation of a pixel about the reconstructed one; full scale 1"
    )
    steps: int = Field(1000, ge=1, description="training steps")
    learning_rate: float = Field(1e-3, gt=0, description="of Adam")
    blur: float = blur_option(2.0)


class VAE(MapMethod, StepMethod):
    """Kingma & Welling 2014, "Auto-Encoding Variational Bayes", as used by Baur et al. 2018 for anomaly detection.

    Kept: normal posterior by reparameterisation, standard normal prior, ELBO as loss (pixels are normal with a fixed
    `deviation`); residual of the image reconstructed from the posterior's mean, in absolute value (Baur). Options: the
    KL term as image score, and the gradient of the ELBO, taken at the posterior's mean, with respect to the image as
    map (Zimmerer et al. 2019, "Unsupervised Anomaly Localization using Variational Auto-Encoders"), written out by the
    chain rule so that it is part of the graph that ships. Deviations: a DCGAN for the network, the border
    mirrored; the map is smoothed and standardised by held-out good images (`standardise=none`: not), and its maximum is
    the image score.
    """

    info: ClassVar[MethodInfo] = MethodInfo(
        name="vae",
        branch="reconstruction",
        title="Variational autoencoder",
        paper="Kingma & Welling 2014, Auto-Encoding Variational Bayes; Baur et al. 2018, Deep Autoencoding Models for "
        "Unsupervised Anomaly Segmentation in Brain MR Images",
        requires=("good",),
        answers=("where", "how much"),
        summary="An autoencoder whose bottleneck is a distribution; blurred reconstructions, no sharp detail.",
        smoke={"steps": 60, "width": 8},
    )
    Options: ClassVar[type[Options]] = VAEOptions
    options: VAEOptions

    def __init__(self, options: VAEOptions, classes: tuple[str, ...], channels: int = 3) -> None:
        super().__init__(options, classes, channels)
        self.encoder = dcgan_encoder(channels, options.image_size, options.width, 2 * options.dimensions)
        self.decoder = dcgan_decoder(options.dimensions, channels, options.image_size, options.width)
        self.blur = GaussianBlur(options.blur)

    def posterior(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Mean and log variance of the bottleneck: twice (N, D)."""
        mean, log_variance = self.encoder(images).flatten(1).chunk(2, dim=1)
        return mean, log_variance.clamp(-10, 10)

    def decode(self, code: Tensor) -> Tensor:
        """Images (N, C, H, W) of codes (N, D)."""
        return self.decoder(code[:, :, None, None])

    def map_and_score(self, images: Tensor) -> tuple[Tensor, Tensor | None]:
        if self.options.score == "gradient":
            return self.blur(self.elbo_gradient(images).abs().mean(dim=1)), None
        mean, log_variance = self.posterior(images)
        heat = self.blur(residual_map(images, self.decode(mean)))
        return heat, kl_to_standard_normal(mean, log_variance) if self.options.score == "kl" else None

    def elbo_gradient(self, images: Tensor) -> Tensor:
        """Gradient of the negative ELBO, at the posterior's mean, with respect to the image: (N, C, H, W).

        In nats for a change of the pixel by full scale. `forward` cannot ask autograd, which does not export.
        """
        encoded = layer_outputs(self.encoder, images)
        mean, raw = encoded[-1].chunk(2, dim=1)
        log_variance = raw.clamp(-10, 10)
        decoded = layer_outputs(self.decoder, mean)
        residual = (images - decoded[-1]) / self.options.deviation**2
        to_mean = mean + backpropagate(self.decoder, decoded, -residual)
        to_log_variance = 0.5 * (log_variance.exp() - 1) * (raw.abs() < 10).to(raw.dtype)
        return residual + backpropagate(self.encoder, encoded, torch.cat([to_mean, to_log_variance], dim=1))

    def compute_loss(self, batch: Batch) -> Tensor:
        images = batch["image"]
        mean, log_variance = self.posterior(images)
        code = mean + torch.randn_like(mean) * (0.5 * log_variance).exp()
        squared = masked_mean((images - self.decode(code)).square().sum(dim=1), batch["valid"])
        pixels = images.shape[-2] * images.shape[-1]
        reconstruction = 0.5 * pixels * squared / self.options.deviation**2
        divergence = kl_to_standard_normal(mean, log_variance).mean()
        self.log_dict({"negative_elbo": reconstruction + divergence, "kl": divergence}, prog_bar=True)
        return (reconstruction + divergence) / pixels  # the gradient's scale then does not depend on the image's size


def layer_outputs(layers: nn.Sequential, x: Tensor) -> list[Tensor]:
    """The input of the first layer and the output of each."""
    outputs = [x]
    for layer in layers:
        outputs.append(layer(outputs[-1]))
    return outputs


def backpropagate(layers: nn.Sequential, outputs: Sequence[Tensor], gradient: Tensor) -> Tensor:
    """The chain rule by hand, in evaluation mode: from the gradient at the layers' output to that at their input.

    `outputs` are those of `layer_outputs`. Knows the layers of `dcgan_encoder` and `dcgan_decoder`.
    """
    for layer, before, after in reversed(list(zip(layers, outputs[:-1], outputs[1:], strict=True))):
        if isinstance(layer, nn.Conv2d):
            gradient = F.conv_transpose2d(gradient, layer.weight, stride=layer.stride)
            gradient = fold_border(gradient) if layer.padding_mode == "reflect" else gradient
        elif isinstance(layer, nn.ConvTranspose2d):
            gradient = F.conv2d(gradient, layer.weight, stride=layer.stride, padding=layer.padding)
            gradient = fold_border(gradient) if isinstance(layer, DoublingConv) else gradient
        elif isinstance(layer, nn.BatchNorm2d):
            gradient = gradient * (layer.weight / (layer.get_buffer("running_var") + layer.eps).sqrt()).view(
                1, -1, 1, 1
            )
        elif isinstance(layer, nn.LeakyReLU):
            gradient = torch.where(before > 0, gradient, layer.negative_slope * gradient)
        elif isinstance(layer, nn.ReLU):
            gradient = torch.where(before > 0, gradient, torch.zeros_like(gradient))
        elif isinstance(layer, nn.Sigmoid):
            gradient = gradient * after * (1 - after)
        else:
            raise TypeError(f"no rule for {type(layer).__name__}")
    return gradient


def fold_border(gradient: Tensor) -> Tensor:
    """The chain rule of mirroring by one pixel: (N, C, H + 2, W + 2) to (N, C, H, W).

    What arrives at a mirrored row or column is added to the one that it shows.
    """
    for _ in range(2):  # rows, then columns
        rest = gradient.shape[2] - 4
        edges = F.pad(gradient[:, :, :1], (0, 0, 1, rest)) + F.pad(gradient[:, :, -1:], (0, 0, rest, 1))
        gradient = (gradient[:, :, 1:-1] + edges).transpose(2, 3)
    return gradient
