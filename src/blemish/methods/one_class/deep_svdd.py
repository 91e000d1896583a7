"""Deep SVDD: a network that maps good images into a small sphere; the distance from its centre is the score."""

import itertools
from typing import Any, ClassVar, Literal

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor, nn

from blemish.errors import OptionError
from blemish.methods.base import Batch, Method, MethodInfo, Options, ignored_when
from blemish.methods.common.blocks import GaussianBlur, enlarge, image_mean
from blemish.methods.common.schedule import training_batches

LAST_GRID = 8  # places along a side at which the last convolution's map is joined to one vector


class DeepSVDDOptions(Options):
    image_size: int = Field(128, ge=32, le=512, description="side of the square that the network sees, in px")
    objective: Literal["one-class", "soft-boundary"] = Field("one-class", description="the paper's two losses")
    nu: float = Field(
        0.1,
        gt=0,
        lt=1,
        description="soft boundary: share of the training images allowed outside",
        json_schema_extra=ignored_when("objective", "one-class"),
    )
    dimensions: int = Field(128, ge=1, description="dimensions of the space of the sphere")
    width: int = Field(16, ge=1, description="channels of the first layer, doubled at each of the next three")
    pretrain_steps: int = Field(400, ge=1, description="steps of the autoencoder that the network starts from")
    steps: int = Field(300, ge=1, description="steps of drawing the sphere together; paper: 150 epochs")
    learning_rate: float = Field(1e-4, gt=0, description="of Adam while the sphere is drawn together")
    pretrain_rate: float = Field(1e-3, gt=0, description="of Adam for the autoencoder")
    blur: float = Field(8.0, ge=0, description="sigma of the map's Gaussian, in px of the network's input")


class DeepSVDD(Method):
    """Ruff et al. 2018, "Deep One-Class Classification" (Deep SVDD), ICML.

    Kept: a LeNet-like network without bias terms and with BatchNorm without scale and shift, so that it cannot map all
    to one point; start from a convolutional autoencoder; centre = mean of the good images' outputs, fixed before the
    second stage, and kept away from zero; both losses, the radius of the soft boundary as the quantile of the
    distances; global contrast normalisation; Adam with decay 1e-6, the rate falling to a tenth at the end. Deviations:
    more layers, for larger images than the paper's 32 px; the radius follows each batch, slowly. The map is our
    addition: the last layer is linear, so the squared distance is a sum over the places of the map before it, each of
    which is shown less its mean over the good images. It is coarse, and can be below zero.
    """

    info: ClassVar[MethodInfo] = MethodInfo(
        name="deep-svdd",
        branch="one_class",
        title="Deep SVDD",
        paper="Ruff et al. 2018, Deep One-Class Classification, ICML",
        requires=("good",),
        answers=("where",),
        summary="Good images are drawn into a small sphere; needs no pretrained network. A baseline.",
        smoke={"pretrain_steps": 40, "steps": 20},
        never_advised="a baseline: one vector for a whole image loses small defects; patch-svdd and fcdd keep them",
    )
    Options: ClassVar[type[Options]] = DeepSVDDOptions
    options: DeepSVDDOptions

    def __init__(self, options: DeepSVDDOptions, classes: tuple[str, ...], channels: int = 3) -> None:
        super().__init__(options, classes, channels)
        levels = (options.image_size // LAST_GRID).bit_length() - 1
        if options.image_size != LAST_GRID * 2**levels:
            raise OptionError(f"image_size={options.image_size} must be a power of two times {LAST_GRID}")
        widths = [channels, *(options.width * 2 ** min(i, 3) for i in range(levels))]
        self.convolutions = nn.Sequential(*(_down(a, b) for a, b in itertools.pairwise(widths)))
        self.join = nn.Conv2d(widths[-1], options.dimensions, LAST_GRID, bias=False)
        self.decoder = nn.Sequential(
            nn.ConvTranspose2d(options.dimensions, widths[-1], LAST_GRID, bias=False),
            *(_up(a, b) for a, b in zip(widths[:0:-1], widths[-2::-1], strict=True)),
        )
        self.blur = GaussianBlur(options.blur)
        self.register_buffer("center", torch.zeros(options.dimensions))  # zero: the second stage has not begun
        self.register_buffer("squared_radius", torch.zeros(()))
        self.register_buffer("place_mean", torch.zeros(options.dimensions, LAST_GRID, LAST_GRID))

    def embed(self, images: Tensor) -> Tensor:
        """(N, D) points; good ones lie near the centre."""
        return self.join(self.convolutions(contrast_normalised(images))).flatten(1)

    def forward(self, images: Tensor) -> dict[str, Tensor]:
        maps = self.convolutions(contrast_normalised(images))
        offset = self.join(maps).flatten(1) - self.center
        score = offset.square().sum(dim=1)
        if self.options.objective == "soft-boundary":
            score = score - self.squared_radius
        share = (offset[:, :, None, None] * (self.place_shares(maps) - self.place_mean)).sum(dim=1)
        return {"anomaly_score": score, "anomaly_map": self.blur(enlarge(share, images.shape[-2:]))}

    def place_shares(self, maps: Tensor) -> Tensor:
        """What each place adds to the point: (N, D, h, w), whose sum over the places is the point itself."""
        return torch.einsum("nchw,dchw->ndhw", maps, self.join.weight)

    def training_step(self, batch: Batch, index: int) -> Tensor:
        images = batch["image"]
        if self.global_step < self.options.pretrain_steps:
            normal = contrast_normalised(images)
            rebuilt = self.decoder(self.join(self.convolutions(normal)))
            loss = F.mse_loss(rebuilt, normal)
        else:
            if not bool(self.center.any()):
                self._set_center()
                self._forget_first_stage()
            squared = (self.embed(images) - self.center).square().sum(dim=1)
            loss = squared.mean()
            if self.options.objective == "soft-boundary":
                self._follow_radius(squared.detach())
                beyond = (squared - self.squared_radius).clamp(min=0)
                loss = self.squared_radius + beyond.mean() / self.options.nu
        self.log("loss", loss, prog_bar=True)
        return loss

    @torch.no_grad()
    def _set_center(self) -> None:
        self.eval()
        points = torch.cat([self.embed(batch["image"]) for batch in training_batches(self)])
        self.train()
        center = points.mean(dim=0)
        # A coordinate near zero could be reached by a network of zero weights.
        self.center = torch.where(center.abs() < 0.1, torch.where(center < 0, -0.1, 0.1), center)
        self._follow_radius((points - self.center).square().sum(dim=1), share=1.0)

    def _forget_first_stage(self) -> None:
        """Adam begins anew: the autoencoder's slopes are of another size, and would set the steps for long."""
        optimizer = self.optimizers()
        assert not isinstance(optimizer, list)
        optimizer.state.clear()

    def _follow_radius(self, squared: Tensor, share: float = 0.1) -> None:
        quantile = torch.quantile(squared, 1 - self.options.nu)
        self.squared_radius = (1 - share) * self.squared_radius + share * quantile

    @torch.no_grad()
    def on_train_end(self) -> None:
        self.eval()
        count, total = 0, torch.zeros_like(self.place_mean)
        for batch in training_batches(self):
            shares = self.place_shares(self.convolutions(contrast_normalised(batch["image"])))
            count, total = count + len(shares), total + shares.sum(dim=0)
        self.place_mean = total / count

    def configure_optimizers(self) -> dict[str, Any]:
        first, second = self.options.pretrain_steps, self.options.steps
        optimizer = torch.optim.Adam(self.parameters(), lr=self.options.pretrain_rate, weight_decay=1e-6)
        ratio = self.options.learning_rate / self.options.pretrain_rate

        def factor(step: int) -> float:
            done = step / first if step < first else (step - first) / second
            return (1.0 if step < first else ratio) * (1.0 if done < 0.8 else 0.1)

        schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, factor)
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}

    def trainer_options(self) -> dict[str, Any]:
        return {"max_steps": self.options.pretrain_steps + self.options.steps}


def contrast_normalised(images: Tensor) -> Tensor:
    """Each image less its mean, in parts of its mean absolute contrast (global contrast normalisation, L1)."""
    centred = images - image_mean(images)
    return centred / image_mean(centred.abs()).clamp(min=1e-4)


def _down(inputs: int, outputs: int) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(inputs, outputs, 5, padding=2, bias=False),
        nn.BatchNorm2d(outputs, affine=False),
        nn.LeakyReLU(0.1),
        nn.MaxPool2d(2),
    )


def _up(inputs: int, outputs: int) -> nn.Sequential:
    return nn.Sequential(
        nn.BatchNorm2d(inputs, affine=False),
        nn.LeakyReLU(0.1),
        nn.Upsample(scale_factor=2),
        nn.Conv2d(inputs, outputs, 5, padding=2, bias=False),
    )
