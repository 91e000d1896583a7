"""PatchCore: a memory bank of patch features of good images; a patch far from all of them is a defect."""

import math
from typing import Any, ClassVar, Literal

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor

from blemish.methods.base import Batch, MethodInfo, OnePassMethod, Options
from blemish.methods.common.backbones import DEFAULT_BACKBONE, load_backbone
from blemish.methods.common.blocks import (
    GaussianBlur,
    enlarge,
    flatten_maps,
    patch_features,
    rotated_views,
    valid_patches,
)
from blemish.methods.common.distributed import gather_vectors
from blemish.methods.feature_distance.coreset import Held, k_center_greedy, random_projection

LEAST_BANK = 2000  # vectors that the bank keeps, if there are so many
SEARCH_CHUNK = 4096  # bank vectors compared at a time; bounds the memory of the shipped graph


class PatchCoreOptions(Options):
    backbone: str = Field(DEFAULT_BACKBONE, description="timm name of the feature network")
    weights: str = Field("auto", description="auto, embedded, imagenet, random, or a local weights file")
    strides: tuple[int, ...] = Field((8, 16), description="feature maps used, finest first")
    coreset_ratio: float = Field(
        0.01, gt=0, le=1, description="share of the training patches kept in the bank, 2000 of them at least"
    )
    max_vectors: int = Field(32768, ge=1, description="upper limit of the bank, whatever the ratio")
    projection: int = Field(128, ge=0, description="dimensions in which the coreset is chosen; 0 for all")
    rotations: Literal[1, 2, 4] = Field(
        1, description="turns of each good image, for few of them that lie any way round; 4: square ones, or letterbox"
    )
    neighbours: int = Field(9, ge=1, description="bank neighbours that re-weight the image score")
    blur: float = Field(4.0, ge=0, description="sigma of the map's Gaussian, in px of the network's input")
    memory_mb: int = Field(512, ge=16, description="features held while fitting; beyond it they are condensed")


class PatchCore(OnePassMethod):
    """Roth et al. 2022, "Towards Total Recall in Industrial Anomaly Detection" (PatchCore).

    Kept from the paper: locally aware patch features of two middle layers, greedy k-centre coreset chosen in a random
    projection, nearest-neighbour distance, re-weighted image score, bilinear map smoothed with sigma 4. Deviations: the
    default backbone is a light one (the paper's is WideResNet-50, `backbone=wide_resnet50_2`); its channels are used as
    they are, not pooled to 1024; the whole image is used, not its central crop; the coreset starts from the vector
    nearest to the mean, and has 2000 vectors at least. When the features outgrow `memory_mb` they are condensed as they
    come: a coreset of coresets, no longer the exact greedy choice.
    """

    info: ClassVar[MethodInfo] = MethodInfo(
        name="patchcore",
        branch="feature_distance",
        title="PatchCore",
        paper="Roth et al. 2022, Towards Total Recall in Industrial Anomaly Detection, CVPR",
        requires=("good",),
        answers=("where", "how much"),
        summary="Memory bank of good patch features; learns in one pass, no tuning. The first choice with good images.",
        smoke={"coreset_ratio": 0.2},
    )
    Options: ClassVar[type[Options]] = PatchCoreOptions
    options: PatchCoreOptions

    def __init__(self, options: PatchCoreOptions, classes: tuple[str, ...], channels: int = 3) -> None:
        super().__init__(options, classes, channels)
        self.backbone = load_backbone(options.backbone, options.weights, channels, options.strides)
        self.backbone.eval().requires_grad_(False)
        self.blur = GaussianBlur(options.blur)
        self.register_buffer("bank", torch.empty(0, sum(self.backbone.channels)))
        self.register_buffer("bank_neighbours", torch.empty(0, 0, dtype=torch.int64))
        # A batch's patches go in before the block is found to be full.
        self._most = max(1, self._budget() // (4 * self.bank.shape[1]))
        of_image = (options.image_size // min(options.strides)) ** 2
        self._held = Held(self._most + options.rotations * options.batch_size * of_image)
        self._seen = 0

    def features(self, images: Tensor) -> Tensor:
        return patch_features(self.backbone(images))

    def forward(self, images: Tensor) -> dict[str, Tensor]:
        features = self.features(images)
        count, _, height, width = features.shape
        patches = flatten_maps(features) - self.bank_mean
        distances = nearest_distance(patches, self.bank - self.bank_mean).view(count, height * width)
        worst = distances.argmax(dim=1)
        worst_patch = patches.view(count, height * width, -1)[torch.arange(count, device=worst.device), worst]
        score = distances.amax(dim=1) * self._weight(worst_patch)
        heat = self.blur(enlarge(distances.view(count, height, width), images.shape[-2:]))
        return {"anomaly_score": score, "anomaly_map": heat}

    @property
    def bank_mean(self) -> Tensor:
        return self.bank.mean(dim=0)

    def _weight(self, patch: Tensor) -> Tensor:
        """Equation 7: less weight where the nearest bank vector stands in a dense part of the bank. (N, D) to (N,)."""
        bank = self.bank - self.bank_mean
        nearest = squared_distances(patch, bank).argmin(dim=1)
        around = bank[self.bank_neighbours[nearest]]  # (N, b, D); the first is the nearest itself
        distances = (patch[:, None] - around).square().sum(dim=2).sqrt()
        if distances.shape[1] < 2:
            return torch.ones_like(distances[:, 0])
        return 1 - distances.softmax(dim=1)[:, 0]

    def training_step(self, batch: Batch, index: int) -> None:
        for images, valid in rotated_views(batch["image"], batch["valid"], self.options.rotations):
            features = self.features(images)
            keep = valid_patches(valid, features.shape[-2:]).flatten()
            vectors = flatten_maps(features)[keep]
            self._held.add(vectors)
            self._seen += len(vectors)
        if len(self._held) > self._most:
            self._held.replace(self._condense(self._held.vectors, self._target(self._seen)))

    def finish(self) -> None:
        vectors, self._held = gather_vectors(self._held.vectors), Held(self._most)
        seen = int(gather_vectors(torch.tensor([[self._seen]], device=vectors.device)).sum())
        self.bank = self._condense(vectors, self._target(seen))
        self.bank_neighbours = nearest_within(self.bank, self.options.neighbours)

    def _target(self, seen: int) -> int:
        # A ratio made for hundreds of images would leave little of a few.
        return min(self.options.max_vectors, max(LEAST_BANK, math.ceil(self.options.coreset_ratio * seen)))

    def _budget(self) -> int:
        # Selection needs the projection of the features beside them.
        return self.options.memory_mb * 2**20 // 2

    def _condense(self, vectors: Tensor, target: int) -> Tensor:
        if len(vectors) <= target:
            return vectors.clone()  # else the bank would keep the whole block alive
        dimensions = self.options.projection
        if 0 < dimensions < vectors.shape[1]:
            reduced = vectors @ random_projection(vectors.shape[1], dimensions).to(vectors)
        else:
            reduced = vectors.clone()
        return vectors[k_center_greedy(reduced, target, in_place=True)]

    def state_summary(self) -> dict[str, Any]:
        return {"bank vectors": len(self.bank), "training patches": self._seen, "dimensions": self.bank.shape[1]}


def squared_distances(x: Tensor, bank: Tensor) -> Tensor:
    """(P, D) and (M, D) to (P, M) squared distances less |x|^2, as one matrix product."""
    table = torch.cat([-2 * bank, bank.square().sum(dim=1, keepdim=True)], dim=1)
    return F.pad(x, (0, 1), value=1.0) @ table.T


def nearest_distance(x: Tensor, bank: Tensor) -> Tensor:
    """(P, D) vectors to (P,) distance to the nearest of the (M, D) bank vectors."""
    table = torch.cat([-2 * bank, bank.square().sum(dim=1, keepdim=True)], dim=1)
    padded = F.pad(x, (0, 1), value=1.0)
    best = [(padded @ part.T).topk(1, dim=1, largest=False) for part in table.split(SEARCH_CHUNK)]
    values = torch.cat([found.values for found in best], dim=1)
    indices = torch.cat([found.indices + i * SEARCH_CHUNK for i, found in enumerate(best)], dim=1)
    nearest = bank[indices.gather(1, values.argmin(dim=1, keepdim=True))[:, 0]]
    # The product form loses the digits of a small distance; the difference keeps them.
    return (x - nearest).square().sum(dim=1).sqrt()


def nearest_within(bank: Tensor, count: int) -> Tensor:
    """For each of M bank vectors the indices of its `count` nearest, itself first: (M, min(count, M))."""
    count = min(count, len(bank))
    centred = bank - bank.mean(dim=0)
    rows = max(1, 2**25 // (4 * len(bank)))
    parts = []
    for start in range(0, len(bank), rows):
        squared = squared_distances(centred[start : start + rows], centred)
        own = torch.arange(start, start + len(squared), device=bank.device)
        squared[torch.arange(len(squared), device=bank.device), own] = -torch.inf
        parts.append(squared.topk(count, dim=1, largest=False).indices)
    return torch.cat(parts)
