"""Deep SVDD: a network maps good images into a small sphere; the distance from its centre is the score."""

import itertools
from collections.abc import Iterable
from typing import Any, ClassVar, Literal

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor, nn

from blemish.errors import OptionError
from blemish.methods.base import Batch, MethodInfo, Options, ignored_when
from blemish.methods.common.anomaly import StepMethod, anomaly_outputs, blur_option, side_option
from blemish.methods.common.blocks import GaussianBlur, enlarge, image_mean
from blemish.methods.common.schedule import training_batches

LAST_GRID = 8  # cells along a side of the last convolution's map, which is joined to one vector


class DeepSVDDOptions(Options):
    image_size: int = side_option(128, le=512)
    objective: Literal["one-class", "soft-boundary"] = Field("one-class", description="the paper's two losses")
    nu: float = Field(
        0.1,
        gt=0,
        lt=1,
        description="soft boundary: share of the training images allowed outside the sphere",
        json_schema_extra=ignored_when("objective", "one-class"),
    )
    dimensions: int = Field(128, ge=1, description="dimensions of the space of the sphere")
    width: int = Field(16, ge=1, description="channels of the first layer, doubled at each of the next three")
    pretrain_steps: int = Field(400, ge=1, description="steps of the autoencoder that the network starts from")
    steps: int = Field(300, ge=1, description="steps of contracting the sphere; paper: 150 epochs")
    learning_rate: float = Field(1e-4, gt=0, description="of Adam while the sphere is contracted")
    pretrain_rate: float = Field(1e-3, gt=0, description="of Adam for the autoencoder")
    blur: float = blur_option(8.0)


class DeepSVDD(StepMethod):
    """Ruff et al. 2018, "Deep One-Class Classification" (Deep SVDD), ICML.

    Kept: a LeNet-like network without bias terms and with BatchNorm without scale and shift, so that it cannot map
    everything to one point; start from a convolutional autoencoder; centre = mean of the good images' outputs, fixed
    before the second stage, and kept away from zero; both losses, the radius of the soft boundary as the quantile of
    the distances; global contrast normalisation; Adam with decay 1e-6, the rate falling to a tenth at the end.
    Deviations: more layers, for larger images than the paper's 32 px; the radius follows each batch, slowly. The map is
    our addition: the last layer is linear, so the squared distance is a sum over the locations of the map before it,
    each of which enters less its mean over the good images. It is coarse, and can be below zero.
    """

    info: ClassVar[MethodInfo] = MethodInfo(
        name="deep-svdd",
        branch="one_class",
        title="Deep SVDD",
        paper="Ruff et al. 2018, Deep One-Class Classification, ICML",
        requires=("good",),
        answers=("where",),
        summary="Good images are mapped into a small sphere; needs no pretrained network. A baseline.",
        smoke={"pretrain_steps": 40, "steps": 20},
        never_advised="a baseline: one vector for a whole image loses small defects; patch-svdd and fcdd keep them",
    )
    Options: ClassVar[type[Options]] = DeepSVDDOptions
    options: DeepSVDDOptions
    centre: Tensor
    squared_radius: Tensor
    location_mean: Tensor

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
        self.register_buffer("centre", torch.zeros(options.dimensions))  # zero: the second stage has not started
        self.register_buffer("squared_radius", torch.zeros(()))
        self.register_buffer("location_mean", torch.zeros(options.dimensions, LAST_GRID, LAST_GRID))

    def embed(self, images: Tensor) -> Tensor:
        """(N, D) embeddings, near the centre for good images."""
        return self.join(self.convolutions(normalize_contrast(images))).flatten(1)

    def forward(self, images: Tensor) -> dict[str, Tensor]:
        maps = self.convolutions(normalize_contrast(images))
        offset = self.join(maps).flatten(1) - self.centre
        score = offset.square().sum(dim=1)
        if self.options.objective == "soft-boundary":
            score = score - self.squared_radius
        heat = (offset[:, :, None, None] * (self.location_shares(maps) - self.location_mean)).sum(dim=1)
        return anomaly_outputs(self.blur(enlarge(heat, images.shape[-2:])), score)

    def location_shares(self, maps: Tensor) -> Tensor:
        """The share of each location in the embedding: (N, D, h, w), whose sum over the locations is the embedding."""
        return torch.einsum("nchw,dchw->ndhw", maps, self.join.weight)

    def compute_loss(self, batch: Batch) -> Tensor:
        images = batch["image"]
        if self.global_step < self.options.pretrain_steps:
            normalized = normalize_contrast(images)
            return F.mse_loss(self.decoder(self.join(self.convolutions(normalized))), normalized)
        if not bool(self.centre.any()):
            self._set_centre()
            self._reset_optimizer()
        squared = (self.embed(images) - self.centre).square().sum(dim=1)
        if self.options.objective == "one-class":
            return squared.mean()
        self._follow_radius(squared.detach())
        return self.squared_radius + (squared - self.squared_radius).clamp(min=0).mean() / self.options.nu

    @torch.no_grad()
    def _set_centre(self) -> None:
        self.eval()
        points = torch.cat([self.embed(batch["image"]) for batch in training_batches(self)])
        self.train()
        centre = points.mean(dim=0)
        # A coordinate near zero could be reached by a network of zero weights.
        self.centre = torch.where(centre.abs() < 0.1, torch.where(centre < 0, -0.1, 0.1), centre)
        self._follow_radius((points - self.centre).square().sum(dim=1), share=1.0)

    def _reset_optimizer(self) -> None:
        """Resets Adam: the autoencoder's gradients are of another size, and would scale the steps for long."""
        optimizer = self.optimizers()
        assert not isinstance(optimizer, list)
        optimizer.state.clear()

    def _follow_radius(self, squared: Tensor, share: float = 0.1) -> None:
        quantile = torch.quantile(squared, 1 - self.options.nu)
        self.squared_radius = (1 - share) * self.squared_radius + share * quantile

    @torch.no_grad()
    def finish_training(self, batches: Iterable[Batch], count: int) -> None:
        self.eval()
        total = torch.zeros_like(self.location_mean)
        for batch in batches:
            total += self.location_shares(self.convolutions(normalize_contrast(batch["image"]))).sum(dim=0)
        self.location_mean = total / count

    def configure_optimizers(self) -> Any:
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


def normalize_contrast(images: Tensor) -> Tensor:
    """Global contrast normalisation (L1): each image less its mean, divided by its mean absolute contrast."""
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
