"""Siamese comparison: a shared encoder, trained on good pairs and synthetic defects, compares image and reference."""

from collections.abc import Iterable
from typing import ClassVar, Literal

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor, nn
from torch.optim import Optimizer

from blemish.dataset.sample import Dataset
from blemish.errors import DataError
from blemish.methods.base import Batch, MethodInfo, Options, ignored_when
from blemish.methods.common.anomaly import StepMethod, anomaly_outputs, blur_option
from blemish.methods.common.backbones import DEFAULT_BACKBONE, load_backbone
from blemish.methods.common.blocks import FrozenNetwork, GaussianBlur, enlarge, patch_features, valid_patches
from blemish.methods.common.distributed import gather_vectors
from blemish.methods.common.losses import contrastive_loss
from blemish.methods.common.textures import confetti
from blemish.methods.feature_distance.coreset import k_center_greedy


class SiameseOptions(Options):
    batch_size: int = Field(8, ge=2, description="images in a training batch")
    backbone: str = Field(DEFAULT_BACKBONE, description="timm name of the frozen part of the encoder")
    weights: str = Field("auto", description="auto, embedded, imagenet, random, or a local weights file")
    strides: tuple[int, ...] = Field((4, 8, 16), description="feature maps compared, finest first")
    dimensions: int = Field(64, ge=2, description="dimensions of an embedding")
    margin: float = Field(
        1.0, gt=0, le=2, description="distance beyond which different locations are not pushed further"
    )
    tolerance: int = Field(
        1, ge=0, le=8, description="cells of the map that the reference may be shifted, in each direction"
    )
    gallery: int = Field(
        10,
        ge=1,
        description="good images kept in the bundle as references, the most different ones",
        json_schema_extra=ignored_when("reference", "template"),
    )
    reference: Literal["auto", "template", "gallery"] = Field(
        "auto", description="references that images are compared with; auto: their templates where all have one"
    )
    steps: int = Field(300, ge=1, description="training steps")
    learning_rate: float = Field(1e-3, gt=0, description="of AdamW")
    blur: float = blur_option(4.0)


class Siamese(StepMethod):
    """Twin encoders after Bromley et al. 1993, with the contrastive loss of Hadsell, Chopra & LeCun 2006.

    Both branches share a frozen network and a trained head that gives each location an embedding of unit length. In
    training, each good image is compared with its template, where the data has templates, or else with another good
    image of the batch; where confetti was pasted on it, locations should be at least `margin` apart, elsewhere they
    should agree. In inspection, each location is compared with the same location of the reference and those `tolerance`
    around it; without a template the references are a gallery of good images, the nearest of which is used. Parts
    must be aligned. Pixels that a shift has brought in at the border have no counterpart in a template: the outermost
    `tolerance` + 1 locations, at most a sixteenth of the side, are not trained on and take the distance of the next
    ones further in. Map = distance, smoothed; image score = its maximum. `forward(images, template)` compares with
    templates.
    """

    info: ClassVar[MethodInfo] = MethodInfo(
        name="siamese",
        branch="feature_distance",
        title="Siamese comparison",
        paper="Hadsell, Chopra & LeCun 2006, Dimensionality Reduction by Learning an Invariant Mapping, CVPR",
        requires=("good",),
        optional=("template",),
        answers=("where", "how much"),
        summary="Compares an aligned part with a template or good images, by features that ignore what varies.",
        smoke={"steps": 20, "gallery": 3},
    )
    Options: ClassVar[type[Options]] = SiameseOptions
    options: SiameseOptions
    by_template: Tensor
    gallery: Tensor

    def __init__(self, options: SiameseOptions, classes: tuple[str, ...], channels: int = 3) -> None:
        super().__init__(options, classes, channels)
        backbone = load_backbone(options.backbone, options.weights, channels, options.strides)
        hidden = 2 * options.dimensions
        self.head = nn.Sequential(
            nn.Conv2d(sum(backbone.channels), hidden, 1),
            nn.BatchNorm2d(hidden),
            nn.ReLU(),
            nn.Conv2d(hidden, options.dimensions, 1),
        )
        self.backbone = FrozenNetwork(backbone)
        self.blur = GaussianBlur(options.blur)
        side = options.image_size // options.strides[0]
        self._previous: Tensor | None = None  # the last image of the previous batch
        self.register_buffer("by_template", torch.zeros((), dtype=torch.bool))
        # Untrained it has its size already, so that the advisor's estimate counts the comparisons.
        self.register_buffer("gallery", torch.zeros(options.gallery, options.dimensions, side, side))

    @property
    def uses_template(self) -> bool:
        return bool(self.by_template)

    def before_training(self, dataset: Dataset) -> None:
        missing = [s for s in dataset.samples if s.template is None]
        if self.options.reference == "template" and missing:
            raise DataError(
                f"{missing[0].image} has no template but reference=template needs one; add it in the column "
                "'template', or use reference=gallery"
            )
        self.by_template.fill_(self.options.reference != "gallery" and not missing)

    def embed(self, images: Tensor) -> Tensor:
        """(N, D, h, w) embeddings of unit length."""
        return F.normalize(self.head(patch_features(self.backbone(images))), dim=1)

    def forward(self, images: Tensor, template: Tensor | None = None) -> dict[str, Tensor]:
        own = self.embed(images)
        if template is not None:
            distance = self.distance(own, self.embed(template))
            distance = extend_inner(distance, self.edge(distance))
        else:
            distance = torch.stack([self.distance(own, reference[None]) for reference in self.gallery]).amin(dim=0)
        return anomaly_outputs(self.blur(enlarge(distance, images.shape[-2:])))

    def distance(self, own: Tensor, reference: Tensor) -> Tensor:
        """(N, h, w) distance of each location to the nearest of the reference's locations around it."""
        reach = self.options.tolerance
        height, width = own.shape[-2:]
        padded = F.pad(reference, (reach,) * 4, mode="replicate")
        # Of differences, not of products: near zero, 2 - 2 cos is nothing but rounding errors.
        squared = [
            (own - padded[:, :, y : y + height, x : x + width]).square().sum(dim=1)
            for y in range(2 * reach + 1)
            for x in range(2 * reach + 1)
        ]
        return torch.stack(squared).amin(dim=0).clamp(min=1e-8).sqrt()

    def edge(self, distance: Tensor) -> int:
        """Width of the border of a map (N, h, w) that a shift within the tolerance may have brought in."""
        reach = self.options.tolerance
        return min(reach + 1, min(int(side) for side in distance.shape[-2:]) // 16) if reach else 0

    def compute_loss(self, batch: Batch) -> Tensor:
        images = batch["image"]
        reference = batch["template"] if self.by_template else self.other_images(images)
        corrupted, masks = confetti(images)
        distance = self.distance(self.embed(corrupted), self.embed(reference))
        size = (distance.shape[-2], distance.shape[-1])
        covered = F.adaptive_avg_pool2d(masks[:, None].float(), size)[:, 0]
        keep = valid_patches(batch["valid"], size)
        if self.by_template:
            keep &= inner_mask(distance, self.edge(distance))
        if "differs" in batch:  # real defects are left out: they are neither trained on as defects nor as good
            keep &= F.adaptive_max_pool2d(batch["differs"][:, None].float(), size)[:, 0] == 0
        different, same = (covered > 0.5) & keep, (covered == 0) & keep
        loss = contrastive_loss(distance, different, self.options.margin)
        # Both kinds weigh the same, though few locations are covered.
        balanced = [loss[kind].sum() / kind.sum().clamp(min=1) for kind in (different, same)]
        return torch.stack(balanced).sum()

    def other_images(self, images: Tensor) -> Tensor:
        """Another good image for each: its neighbour in the batch, or for one alone the last of the previous batch."""
        others = images.roll(1, dims=0) if len(images) > 1 or self._previous is None else self._previous
        self._previous = images[-1:]
        return others

    @torch.no_grad()
    def finish_training(self, batches: Iterable[Batch], count: int) -> None:
        self.eval()
        if self.by_template:
            return
        coarse, maps = [], []  # by the coarse ones the most different images are chosen
        for batch in batches:
            embedding = self.embed(batch["image"])
            coarse.append(F.adaptive_avg_pool2d(embedding, 4).flatten(1))
            maps.append(embedding.half())
        chosen = k_center_greedy(gather_vectors(torch.cat(coarse)), self.options.gallery)
        self.gallery = gather_vectors(torch.cat(maps))[chosen].float().clone()

    def make_optimizer(self) -> Optimizer:
        return torch.optim.AdamW(self.head.parameters(), lr=self.options.learning_rate)


def extend_inner(distance: Tensor, edge: int) -> Tensor:
    """Maps (N, h, w) whose outermost `edge` rows and columns repeat the values of the next ones further in."""
    if edge < 1:
        return distance
    return F.pad(distance[:, None, edge:-edge, edge:-edge], (edge,) * 4, mode="replicate")[:, 0]


def inner_mask(distance: Tensor, edge: int) -> Tensor:
    """Which elements (h, w) of maps (N, h, w) are further in than the outermost `edge` rows and columns."""
    mask = torch.zeros(distance.shape[-2:], dtype=torch.bool, device=distance.device)
    mask[edge : mask.shape[0] - edge, edge : mask.shape[1] - edge] = True
    return mask
