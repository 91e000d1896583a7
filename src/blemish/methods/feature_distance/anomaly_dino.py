"""AnomalyDINO: a memory bank of a self-supervised vision transformer's patch features."""

from typing import ClassVar, Literal

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor

from blemish.methods.base import Batch, MethodInfo, OnePassMethod, Options
from blemish.methods.common.anomaly import anomaly_outputs, blur_option, mean_of_worst
from blemish.methods.common.backbones import load_backbone
from blemish.methods.common.blocks import (
    FrozenNetwork,
    GaussianBlur,
    enlarge,
    flatten_maps,
    rotated_views,
    valid_patches,
)
from blemish.methods.common.distributed import gather_vectors
from blemish.methods.feature_distance.coreset import GrowingBuffer, select_coreset
from blemish.methods.feature_distance.nearest import SEARCH_CHUNK
from blemish.methods.feature_distance.vit import check_side

BUFFERED = 16  # patches collected before they are condensed, in sizes of the bank


class AnomalyDINOOptions(Options):
    image_size: int = Field(448, ge=32, le=2048, description="side of the network's input, a multiple of its patches")
    batch_size: int = Field(4, ge=1, description="images in a batch")
    backbone: str = Field("vit_small_patch14_dinov2", description="timm name of a vision transformer")
    weights: str = Field("auto", description="auto, imagenet (timm's own), random, or a local weights file")
    max_vectors: int = Field(16384, ge=1, description="patches kept in the bank; of more, a k-centre coreset")
    rotations: Literal[1, 2, 4] = Field(
        1, description="right-angle rotations of each good image, for parts in any orientation"
    )
    worst_share: float = Field(
        0.01, gt=0, le=1, description="share of the patches, the worst, whose mean is the image score"
    )
    blur: float = blur_option(4.0)


class AnomalyDINO(OnePassMethod):
    """Damm et al. 2025, "AnomalyDINO: Boosting Patch-based Few-shot Anomaly Detection with DINOv2", WACV.

    Kept: normalised patch features of DINOv2's last layer at 448 px, cosine distance to the nearest patch of the bank,
    image score = mean of the worst 1 % of the patches, map enlarged and smoothed with sigma 4, rotated copies of
    the good images, for few of them (`rotations`). Deviations: no foreground mask from a principal component (an ROI
    serves instead); rotations by right angles only; of many good images the bank keeps a k-centre coreset. The weights
    are not embedded: they come from timm's hub or a local file (`weights=FILE`).
    """

    info: ClassVar[MethodInfo] = MethodInfo(
        name="anomaly-dino",
        branch="feature_distance",
        title="AnomalyDINO",
        paper="Damm et al. 2025, AnomalyDINO: Boosting Patch-based Few-shot Anomaly Detection with DINOv2, WACV",
        requires=("good",),
        answers=("where", "how much"),
        summary="Memory bank of vision-transformer patches; works from a few good images. Needs DINO weights.",
        smoke={"backbone": "vit_tiny_patch16_224", "weights": "random", "max_vectors": 100},
        never_advised="its weights, DINOv2, must be fetched from the hub or given as a file",
    )
    Options: ClassVar[type[Options]] = AnomalyDINOOptions
    options: AnomalyDINOOptions
    bank: Tensor

    def __init__(self, options: AnomalyDINOOptions, classes: tuple[str, ...], channels: int = 3) -> None:
        super().__init__(options, classes, channels)
        check_side(options.backbone, options.image_size)
        backbone = load_backbone(
            options.backbone, options.weights, channels, indices=[-1], image_size=options.image_size, norm=True
        )
        self.register_buffer("bank", torch.empty(0, backbone.channels[0]))
        self.blur = GaussianBlur(options.blur)
        self.grid = (options.image_size // backbone.strides[0],) * 2
        self.backbone = FrozenNetwork(backbone)
        self._buffer = GrowingBuffer(BUFFERED * options.max_vectors)

    def features(self, images: Tensor) -> Tensor:
        """(N, D, h, w) patch features of unit length."""
        return F.normalize(self.backbone(images)[0], dim=1)

    def forward(self, images: Tensor) -> dict[str, Tensor]:
        vectors = flatten_maps(self.features(images))
        chunks = [(vectors @ chunk.T).amax(dim=1) for chunk in self.bank.split(SEARCH_CHUNK)]
        distance = (1 - torch.stack(chunks).amax(dim=0)).view(-1, *self.grid)
        heat = self.blur(enlarge(distance, images.shape[-2:]))
        return anomaly_outputs(heat, mean_of_worst(distance, self.options.worst_share))

    def training_step(self, batch: Batch, index: int) -> None:
        for images, valid in rotated_views(batch["image"], batch["valid"], self.options.rotations):
            features = self.features(images)
            self._buffer.add(flatten_maps(features)[valid_patches(valid, features.shape[-2:]).flatten()])
        if len(self._buffer) > BUFFERED * self.options.max_vectors:
            self._buffer.replace(select_coreset(self._buffer.vectors, self.options.max_vectors))

    def finish(self) -> None:
        self.bank = select_coreset(gather_vectors(self._buffer.vectors), self.options.max_vectors)
        self._buffer = GrowingBuffer(BUFFERED * self.options.max_vectors)
