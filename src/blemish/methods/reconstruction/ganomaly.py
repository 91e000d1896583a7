"""GANomaly: encode, decode, encode again; the code of a defective image is not reproduced."""

from typing import Any, ClassVar, Literal

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor, nn

from blemish.methods.base import Batch, MethodInfo, Options, graph_score_only, ignored_when
from blemish.methods.common.anomaly import blur_option, residual_map, side_option, worst_share_option
from blemish.methods.common.blocks import GaussianBlur, dcgan_decoder, dcgan_encoder
from blemish.methods.common.losses import masked_mean
from blemish.methods.common.standardise import MapMethod, MapOptions
from blemish.methods.reconstruction.adversarial import AdversarialMethod, discriminator_loss


class GANomalyOptions(MapOptions):
    image_size: int = side_option(64)
    score: Literal["latent", "residual"] = Field(
        "residual",
        description="image score: the map's maximum, or the distance of the two codes, as in the paper",
        json_schema_extra=graph_score_only("latent"),
    )
    worst_share: float = worst_share_option(0.0, ignored_when("score", "latent"))
    dimensions: int = Field(100, ge=1, description="numbers in the bottleneck")
    width: int = Field(
        32, ge=1, description="channels of the first layer, doubled at each of the next three; paper: 64"
    )
    adversarial: float = Field(1.0, ge=0, description="weight of the adversarial loss")
    contextual: float = Field(50.0, ge=0, description="weight of the image's L1 loss")
    encoding: float = Field(1.0, ge=0, description="weight of the two codes' L2 loss")
    steps: int = Field(1000, ge=1, description="training steps, each of the generator and of the discriminator")
    learning_rate: float = Field(2e-4, gt=0, description="of Adam, with first moment 0.5")
    blur: float = blur_option(1.0)


class GANomaly(MapMethod, AdversarialMethod):
    """Akcay et al. 2018, "GANomaly: Semi-Supervised Anomaly Detection via Adversarial Training", ACCV.

    Kept: encoder, decoder, second encoder and discriminator of DCGAN's form; adversarial loss as the squared distance
    of the discriminator's features, contextual loss L1, encoder loss L2, weighted 1, 50 and 1; binary cross-entropy for
    the discriminator; Adam 2e-4 (0.5, 0.999) at a constant rate. Deviations: images in [0, 1]; half the width; a map,
    which the paper does not have: the smoothed absolute residual, standardised by held-out good images
    (`standardise=none`: not), whose maximum is the image score; the border is mirrored. The paper's score,
    the distance of the two codes, is an option, here as the mean over the code's numbers and not scaled by the test
    images; it is far weaker than the map's maximum: the second encoder finds the code of a broken bottle's image as
    well as that of a whole one.
    """

    info: ClassVar[MethodInfo] = MethodInfo(
        name="ganomaly",
        branch="reconstruction",
        title="GANomaly",
        paper="Akcay et al. 2018, GANomaly: Semi-Supervised Anomaly Detection via Adversarial Training, ACCV",
        requires=("good",),
        answers=("where",),
        summary="Encoder, decoder, encoder, discriminator; compares image and reconstruction, by pixels or by codes.",
        smoke={"steps": 60, "width": 8, "learning_rate": 1e-3},
    )
    Options: ClassVar[type[Options]] = GANomalyOptions
    options: GANomalyOptions

    def __init__(self, options: GANomalyOptions, classes: tuple[str, ...], channels: int = 3) -> None:
        super().__init__(options, classes, channels)
        size, width = options.image_size, options.width
        self.encoder = dcgan_encoder(channels, size, width, options.dimensions)
        self.decoder = dcgan_decoder(options.dimensions, channels, size, width)
        self.second_encoder = dcgan_encoder(channels, size, width, options.dimensions)
        *features, last = dcgan_encoder(channels, size, width, 1)
        self.features, self.classifier = nn.Sequential(*features), last
        self.apply(init_dcgan)
        self.blur = GaussianBlur(options.blur)

    def map_and_score(self, images: Tensor) -> tuple[Tensor, Tensor | None]:
        code = self.encoder(images)
        restored = self.decoder(code)
        heat = self.blur(residual_map(images, restored))
        if self.options.score == "residual":
            return heat, None
        return heat, (code - self.second_encoder(restored)).abs().mean(dim=(1, 2, 3))

    def training_step(self, batch: Batch, index: int) -> None:
        images, valid = batch["image"], batch["valid"]
        generator, discriminator = self.all_optimizers
        code = self.encoder(images)
        restored = self.decoder(code)

        with torch.no_grad():
            wanted = self.features(images)
        adversarial = F.mse_loss(self.features(restored), wanted)
        contextual = masked_mean(residual_map(images, restored), valid)
        encoding = F.mse_loss(self.second_encoder(restored), code)
        loss = (
            self.options.adversarial * adversarial
            + self.options.contextual * contextual
            + self.options.encoding * encoding
        )
        self.minimize(loss, generator)

        real, fake = (self.classifier(self.features(x)).flatten() for x in (images, restored.detach()))
        discrimination = discriminator_loss(real, fake)
        self.minimize(discrimination, discriminator)
        self.log_dict(
            {"loss": loss, "contextual": contextual, "encoding": encoding, "discriminator": discrimination},
            prog_bar=True,
        )

    def configure_optimizers(self) -> list[torch.optim.Optimizer]:
        generator = [*self.encoder.parameters(), *self.decoder.parameters(), *self.second_encoder.parameters()]
        discriminator = [*self.features.parameters(), *self.classifier.parameters()]
        rate = self.options.learning_rate
        return [torch.optim.Adam(p, lr=rate, betas=(0.5, 0.999)) for p in (generator, discriminator)]

    def trainer_options(self) -> dict[str, Any]:
        return {"max_steps": 2 * self.options.steps}  # Lightning counts the steps of both optimisers


def init_dcgan(module: nn.Module) -> None:
    """DCGAN's initialisation: weights near zero, BatchNorm scales near one."""
    if isinstance(module, nn.Conv2d | nn.ConvTranspose2d):
        nn.init.normal_(module.weight, 0.0, 0.02)
    elif isinstance(module, nn.BatchNorm2d):
        nn.init.normal_(module.weight, 1.0, 0.02)
