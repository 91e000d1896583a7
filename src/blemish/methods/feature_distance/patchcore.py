"""PatchCore: a memory bank of patch features of good images; a patch far from all of them is a defect."""

import logging
import math
from collections.abc import Iterable
from typing import ClassVar, Literal

import torch
from pydantic import Field
from torch import Tensor

from blemish.methods.base import Batch, MethodInfo, OnePassMethod, Options, graph_score_only
from blemish.methods.common.anomaly import anomaly_outputs, blur_option
from blemish.methods.common.backbones import FeatureOptions, load_backbone
from blemish.methods.common.blocks import (
    FrozenNetwork,
    GaussianBlur,
    enlarge,
    flatten_maps,
    patch_features,
    rotated_views,
    valid_patches,
)
from blemish.methods.common.distributed import gather_vectors
from blemish.methods.common.local_colour import local_colour
from blemish.methods.feature_distance.coreset import GrowingBuffer, select_coreset
from blemish.methods.feature_distance.nearest import bank_neighbours, nearest_distance, relative_distances

log = logging.getLogger(__name__)

MIN_BANK = 2000  # vectors that the bank keeps at least, if there are as many
COLOUR_BANK = 1000  # colours kept: they have few dimensions
MIN_IMAGES = 5  # good images from which on the weight of colours can be estimated
ROUNDING = 1e-3  # of full scale, the standard deviation of rounding to 8 bits: less is no difference of colours
OWN = 1e-4  # of the bank's deviation: as near as this, a vector is the image's own


class PatchCoreOptions(FeatureOptions):
    strides: tuple[int, ...] = Field((8, 16), description="feature maps used, finest first")
    coreset_ratio: float = Field(
        0.01, gt=0, le=1, description="share of the training patches kept in the bank, at least 2000"
    )
    max_vectors: int = Field(32768, ge=1, description="upper limit of the bank, whatever the ratio")
    projection: int = Field(128, ge=0, description="dimensions in which the coreset is chosen; 0 for all")
    rotations: Literal[1, 2, 4] = Field(
        1,
        description="right-angle rotations of each good image, for few images of parts in any orientation; "
        "4: square images, or letterbox",
    )
    neighbours: int = Field(
        9, ge=1, description="bank neighbours that re-weight the image score", json_schema_extra=graph_score_only()
    )
    colour: float = Field(
        0.0,
        ge=0,
        description="weight of local brightness and colour beside the features, both in standard deviations of the "
        "maxima of good images; 0: none, as in the paper",
    )
    blur: float = blur_option(4.0)
    memory_mb: int = Field(
        512, ge=16, description="memory of the features while fitting; beyond it they are condensed to a coreset"
    )


class PatchCore(OnePassMethod):
    """Roth et al. 2022, "Towards Total Recall in Industrial Anomaly Detection" (PatchCore).

    Kept from the paper: locally aware patch features of two middle layers, greedy k-centre coreset chosen in a random
    projection, nearest-neighbour distance, re-weighted image score, bilinear map smoothed with sigma 4. Deviations: the
    default backbone is a light one (the paper's is WideResNet-50, `backbone=wide_resnet50_2`); its channels are used as
    they are, not pooled to 1024; the whole image is used, not its central crop; the coreset starts from the vector
    nearest to the mean, and has 2000 vectors at least. When the features outgrow `memory_mb` they are condensed in
    between: a coreset of coresets, no longer the exact greedy choice.

    Not in the paper, and off by default: with `colour` a second, small bank holds the means and deviations of
    brightness and colour in the same squares, whose distances are added to those of the features. Each of the two
    counts in its own unit, the standard deviation of the maxima of good images, so that colours weigh little where they
    vary from part to part.
    """

    info: ClassVar[MethodInfo] = MethodInfo(
        name="patchcore",
        branch="feature_distance",
        title="PatchCore",
        paper="Roth et al. 2022, Towards Total Recall in Industrial Anomaly Detection, CVPR",
        requires=("good",),
        answers=("where", "how much"),
        summary="Memory bank of good patch features; fitted in one pass, no tuning. The first choice with good images.",
        smoke={"coreset_ratio": 0.2},
    )
    Options: ClassVar[type[Options]] = PatchCoreOptions
    options: PatchCoreOptions
    bank: Tensor
    bank_neighbours: Tensor
    colour_bank: Tensor
    colour_weight: Tensor  # of a distance of colours, in distances of features

    def __init__(self, options: PatchCoreOptions, classes: tuple[str, ...], channels: int = 3) -> None:
        super().__init__(options, classes, channels)
        backbone = load_backbone(options.backbone, options.weights, channels, options.strides)
        self.backbone = FrozenNetwork(backbone)
        self.blur = GaussianBlur(options.blur)
        self.register_buffer("bank", torch.empty(0, sum(backbone.channels)))
        self.register_buffer("bank_neighbours", torch.empty(0, 0, dtype=torch.int64))
        if options.colour:
            self.register_buffer("colour_bank", torch.empty(0, 2 if channels == 1 else 2 * channels + 2))
            self.register_buffer("colour_weight", torch.zeros(()))
        # Half of the memory: selection needs the projection of the features as well.
        self._capacity = max(1, options.memory_mb * 2**20 // 2 // (4 * self.bank.shape[1]))
        # A batch's patches are added before the buffer is condensed.
        patches = options.rotations * options.batch_size * (options.image_size // min(options.strides)) ** 2
        self._buffer, self._colours = (GrowingBuffer(self._capacity + patches) for _ in range(2))
        self._patches_seen = 0

    def features(self, images: Tensor) -> Tensor:
        """Patch features (N, D, h, w)."""
        return patch_features(self.backbone(images))

    def forward(self, images: Tensor) -> dict[str, Tensor]:
        features = self.features(images)
        count, _, height, width = features.shape
        patches = flatten_maps(features) - self.bank_mean
        distances = nearest_distance(patches, self.bank - self.bank_mean).view(count, height * width)
        if self.options.colour:
            colours = flatten_maps(local_colour(images, (height, width)))
            beside = nearest_colour(colours, self.colour_bank).view(count, height * width)
            distances = distances + self.colour_weight * beside
        worst = distances.argmax(dim=1)
        worst_patch = patches.view(count, height * width, -1)[torch.arange(count, device=worst.device), worst]
        score = distances.amax(dim=1) * self._weight(worst_patch)
        return anomaly_outputs(self.blur(enlarge(distances.view(count, height, width), images.shape[-2:])), score)

    @property
    def bank_mean(self) -> Tensor:
        return self.bank.mean(dim=0)

    def _weight(self, patch: Tensor) -> Tensor:
        """Equation 7: less weight where the nearest bank vector is in a dense region of the bank. (N, D) to (N,)."""
        bank = self.bank - self.bank_mean
        nearest = relative_distances(patch, bank).argmin(dim=1)
        around = bank[self.bank_neighbours[nearest]]  # (N, b, D); the first is the nearest itself
        distances = (patch[:, None] - around).square().sum(dim=2).sqrt()
        if distances.shape[1] < 2:
            return torch.ones_like(distances[:, 0])
        return 1 - distances.softmax(dim=1)[:, 0]

    def training_step(self, batch: Batch, index: int) -> None:
        for images, valid in rotated_views(batch["image"], batch["valid"], self.options.rotations):
            features = self.features(images)
            grid = (features.shape[-2], features.shape[-1])
            keep = valid_patches(valid, grid).flatten()
            vectors = flatten_maps(features)[keep]
            self._buffer.add(vectors)
            self._patches_seen += len(vectors)
            if self.options.colour:
                self._colours.add(flatten_maps(local_colour(images, grid))[keep])
        if len(self._buffer) > self._capacity:
            self._buffer.replace(self._condense(self._buffer.vectors, self._patches_seen))
        if len(self._colours) > self._capacity:
            self._colours.replace(select_coreset(self._colours.vectors, COLOUR_BANK, 0))

    def finish(self) -> None:
        vectors, self._buffer = gather_vectors(self._buffer.vectors), GrowingBuffer(self._capacity)
        seen = gather_vectors(torch.tensor([[self._patches_seen]], device=vectors.device)).sum()
        self.bank = self._condense(vectors, int(seen))
        self.bank_neighbours = bank_neighbours(self.bank, self.options.neighbours)
        if self.options.colour:
            colours, self._colours = gather_vectors(self._colours.vectors), GrowingBuffer(self._capacity)
            self.colour_bank = select_coreset(colours, COLOUR_BANK, 0)

    @torch.no_grad()
    def after_training(self, good: Iterable[Batch]) -> None:
        """Weigh colours by the maxima of good images; what the banks hold of an image itself is left out for it."""
        super().after_training(good)
        if not self.options.colour:
            return
        self.eval()
        deep, colour = [], []  # maxima
        for batch in good:
            images = batch["image"].to(self.device)
            features = self.features(images)
            grid = (features.shape[-2], features.shape[-1])
            colours = local_colour(images, grid)
            for own, beside, keep in zip(features, colours, valid_patches(batch["valid"], grid), strict=True):
                if keep.any():
                    deep.append(farthest(own[:, keep].T, self.bank))
                    colour.append(farthest(beside[:, keep].T, self.colour_bank))
        if len(deep) < MIN_IMAGES:
            log.info("colours do not count: their weight takes %d good images, and there are %d", MIN_IMAGES, len(deep))
            return
        weight = relative_weight(torch.tensor(deep), torch.tensor(colour))
        self.colour_weight = (self.options.colour * weight).to(self.device)

    def _bank_size(self, seen: int) -> int:
        """Number of vectors to keep; the ratio, meant for hundreds of images, would leave too few of a few images."""
        return min(self.options.max_vectors, max(MIN_BANK, math.ceil(self.options.coreset_ratio * seen)))

    def _condense(self, vectors: Tensor, seen: int) -> Tensor:
        return select_coreset(vectors, self._bank_size(seen), self.options.projection)


def nearest_colour(colours: Tensor, bank: Tensor) -> Tensor:
    """Distances (P,) of (P, D) colours to the nearest of the bank, beyond rounding; short, for colours are few."""
    mean = bank.mean(dim=0)
    own = colours - mean
    squared = relative_distances(own, bank - mean).amin(dim=1) + own.square().sum(dim=1)
    return beyond_rounding(squared)


def farthest(vectors: Tensor, bank: Tensor) -> float:
    """The largest distance of an image's (P, D) vectors to those of the bank that are not its own."""
    mean = bank.mean(dim=0)
    own, others = vectors - mean, bank - mean
    others = others[nearest_distance(others, own) > OWN * others.square().mean().sqrt()]
    return float(nearest_distance(own, others).amax()) if len(others) else 0.0


def relative_weight(deep: Tensor, colour: Tensor) -> Tensor:
    """Distances of features in one of colours, by the deviations of both maxima (N,) of good images."""
    return deep.std() / beyond_rounding(colour.square()).std().clamp(min=ROUNDING)


def beyond_rounding(squared: Tensor) -> Tensor:
    """Distances from their squares, less what lies below the rounding of images and of sums, where engines differ."""
    return (squared.clamp(min=0) + ROUNDING**2).sqrt() - ROUNDING
