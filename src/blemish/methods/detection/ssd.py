"""SSD: default boxes of many sizes on maps of many scales, each map on its own."""

import math
from typing import ClassVar, Literal

import numpy as np
import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor, nn

from blemish.methods.base import MethodInfo
from blemish.methods.detection.anchors import AnchorGenerator, Positive
from blemish.methods.detection.dense import AnchorDetector
from blemish.methods.detection.detector import SMOKE, DetectorOptions, suppression_iou_option
from blemish.methods.detection.heads import flatten_cells
from blemish.methods.detection.losses import BoxLoss
from blemish.methods.detection.matching import BACKGROUND
from blemish.methods.detection.pyramid import build_features, conv


class SSDOptions(DetectorOptions):
    neck: Literal["source", "fpn"] = Field(
        "source", description="source: each map by itself, as in the paper; fpn: coarse maps are added to finer ones"
    )
    extra: int = Field(2, ge=0, le=4, description="coarser maps beyond the backbone's strides 8, 16 and 32")
    depth: int = Field(0, ge=0, le=8, description="convolutions of each map's heads before their last")
    first_scale: float = Field(0.1, gt=0, lt=1, description="side of the finest map's boxes, as a share of the image")
    min_scale: float = Field(0.2, gt=0, lt=1, description="of the next map's; those of the maps between grow linearly")
    max_scale: float = Field(0.9, gt=0, le=1, description="of the coarsest map's")
    ratios: tuple[Positive, ...] = Field(
        (2.0, 4.0, 8.0), description="aspect ratios of default boxes in addition to squares, both ways"
    )
    between: Literal["square", "stretched"] = Field(
        "stretched", description="boxes of the sizes between two scales: only squares, as in the paper, or all shapes"
    )
    anchors: Literal["stated", "fitted"] = Field("stated", description="fitted: by k-means of the training boxes")
    negatives: float = Field(3.0, ge=1, description="hard negatives for each positive default box")
    suppression_iou: float = suppression_iou_option(0.45)
    box_loss: BoxLoss = Field("smooth-l1", description="smooth-l1 (the paper's, on offsets), giou or ciou (on boxes)")


class SSD(AnchorDetector):
    """Liu et al. 2016, "SSD: Single Shot MultiBox Detector", ECCV.

    Kept: default boxes of a tenth of the image on the finest of the five maps, of two to nine tenths on the others;
    matching at IoU 0.5 or best; softmax with background; hard negatives three to one; smooth L1 on offsets with
    variances 0.1 and 0.2; suppression at 0.45. Deviations: aspect ratios are 2, 4 and 8 instead of the paper's 2 and 3,
    and boxes of the sizes between two scales are stretched too, since many defects, scratches above all, are longer
    than objects on photographs and overlap none of the paper's boxes by half; the default box that fits a defect best
    is assigned the defect that it overlaps most, should that be another; smooth L1 is linear from 1/9 on (the paper:
    1); a light pretrained backbone, a 3 x 3 convolution to a common width before each map's predictor (in place of the
    paper's L2 normalisation), AdamW, averaged weights; the common augmentation, as the paper's crops (`crop`,
    `canvas`) do worse in so short a training.
    """

    info: ClassVar[MethodInfo] = MethodInfo(
        name="ssd",
        branch="detection",
        title="SSD",
        paper="Liu et al. 2016, SSD: Single Shot MultiBox Detector, ECCV",
        requires=("boxes",),
        answers=("what", "where"),
        summary="One-stage detector with default boxes on maps of several scales; light and fast.",
        smoke={**SMOKE, "steps": 20},
    )
    Options: ClassVar[type[DetectorOptions]] = SSDOptions
    options: SSDOptions
    match_ious = (0.5, 0.5)
    variances = (0.1, 0.2)

    def __init__(self, options: SSDOptions, classes: tuple[str, ...], channels: int = 3) -> None:
        super().__init__(options, classes, channels)
        self.features = build_features(options, channels, options.neck, extra=options.extra)
        strides = self.features.strides
        scales = [options.first_scale, *np.linspace(options.min_scale, options.max_scale, len(strides) - 1).tolist()]
        shapes = default_shapes(options.image_size, scales, options.ratios, options.between)
        self.anchors = AnchorGenerator(shapes, strides)
        self.head = LevelHeads(options.width, options.depth, len(strides), self.anchors.per_cell, 1 + self.num_classes)
        self.box_loss = options.box_loss

    def class_scores(self, logits: Tensor) -> Tensor:
        return logits.softmax(dim=2)[..., 1:]

    def class_loss(self, logits: Tensor, labels: Tensor, matches: Tensor) -> Tensor:
        loss = F.cross_entropy(logits.flatten(0, 1), labels.flatten() + 1, reduction="none").view_as(matches)
        positive = matches >= 0
        hard = hard_negatives(loss.detach(), positive, matches == BACKGROUND, self.options.negatives)
        return loss[positive | hard].sum()


class LevelHeads(nn.Module):
    """Class logits (N, K, C), background first, and offsets (N, K, 4); each level has convolutions of its own."""

    def __init__(self, width: int, depth: int, levels: int, per_cell: int, classes: int) -> None:
        super().__init__()
        self.classes = classes
        self.classifiers, self.regressors = (
            nn.ModuleList(level_head(width, depth, per_cell * outputs) for _ in range(levels))
            for outputs in (classes, 4)
        )

    def forward(self, maps: list[Tensor]) -> tuple[Tensor, Tensor]:
        logits = [flatten_cells(head(x), self.classes) for head, x in zip(self.classifiers, maps, strict=True)]
        offsets = [flatten_cells(head(x), 4) for head, x in zip(self.regressors, maps, strict=True)]
        return torch.cat(logits, dim=1), torch.cat(offsets, dim=1)


def level_head(width: int, depth: int, outputs: int) -> nn.Sequential:
    """`depth` convolutions and a last one with that many output channels."""
    return nn.Sequential(*(conv(width, width) for _ in range(depth)), nn.Conv2d(width, outputs, 3, padding=1))


def default_shapes(
    side: int, scales: list[float], ratios: tuple[float, ...], between: Literal["square", "stretched"]
) -> Tensor:
    """(L, A, 2) widths and heights in px: the paper's section 2.2; between two scales squares only, or all shapes."""
    after = [*scales[1:], 1.0]
    shapes = []
    for scale, following in zip(scales, after, strict=True):
        middle = math.sqrt(scale * following)
        level = [(scale, scale), (middle, middle)]
        for size in (scale, middle) if between == "stretched" else (scale,):
            for ratio in ratios:
                long, short = size * math.sqrt(ratio), size / math.sqrt(ratio)
                level += [(long, short), (short, long)]
        shapes.append(level)
    return side * torch.tensor(shapes)


def hard_negatives(losses: Tensor, positive: Tensor, negative: Tensor, ratio: float) -> Tensor:
    """Hard negative mining: in each image the largest losses (N, K) of negatives, `ratio` times as many as positives.

    An image without a defect gives as many negatives as one with a single positive default box would.
    """
    counts = (ratio * positive.sum(dim=1, keepdim=True).clamp(min=1)).long()
    rank = losses.masked_fill(~negative, -1.0).argsort(dim=1, descending=True).argsort(dim=1)
    return (rank < counts) & negative
