"""RetinaNet: one pass over a feature pyramid, and a loss that the many easy places do not drown."""

from typing import ClassVar, Literal

import torch
from pydantic import Field
from torch import Tensor

from blemish.methods.base import Batch, MethodInfo
from blemish.methods.detection.anchors import Anchors, Sizes, stated_shapes
from blemish.methods.detection.boxes import centres_and_sizes, clip, decode
from blemish.methods.detection.detector import SMOKE_ANCHORS, Detector, DetectorOptions, Losses
from blemish.methods.detection.heads import DenseHead
from blemish.methods.detection.losses import BoxLoss, box_loss, focal, one_hot
from blemish.methods.detection.matching import IGNORED, match, targets, without_ignored
from blemish.methods.detection.pyramid import build_features, timm_backbone


class RetinaNetOptions(DetectorOptions):
    depth: int = Field(2, ge=0, le=8, description="convolutions in each head before its last")
    scales: Sizes = Field((4.0, 5.04, 6.35), description="anchor sides, in strides of their level")
    ratios: Sizes = Field((0.2, 0.5, 1.0, 2.0, 5.0), description="anchor heights, in widths")
    anchors: Literal["stated", "fitted"] = Field("stated", description="fitted: by k-means of the training boxes")
    box_loss: BoxLoss = Field("giou", description="smooth-l1 (the paper's, on offsets), giou or ciou (on boxes)")
    focal_alpha: float = Field(0.25, ge=0, le=1, description="weight of defects against background in the focal loss")
    focal_gamma: float = Field(2.0, ge=0, le=5, description="how much less easy places count; 0: not at all")


class RetinaNet(Detector):
    """Lin et al. 2017, "Focal Loss for Dense Object Detection" (RetinaNet), ICCV.

    Kept: a feature pyramid, anchors of three sizes a cell, two shared heads, focal loss over sigmoids (0.25, 2) divided
    by the number of anchors that find a box, matching at IoU 0.5 and 0.4, prior probability 0.01. Deviations: the
    anchors that overlap a box the most find it, however little that is (the paper leaves such a box out); anchors of
    five shapes, since scratches are longer than the paper's three (1 : 2 at most) come near to; a light backbone and
    heads of two convolutions of 96 channels with BatchNorm (the paper: four of 256, without), levels of stride 8 to 64
    (to 128), GIoU loss by default, AdamW, averaged weights.
    """

    info: ClassVar[MethodInfo] = MethodInfo(
        name="retinanet",
        branch="detection",
        title="RetinaNet",
        paper="Lin et al. 2017, Focal Loss for Dense Object Detection, ICCV",
        requires=("boxes",),
        answers=("what", "where"),
        summary="One-stage detector with anchors; a focal loss keeps easy background from drowning rare defects.",
        smoke={**SMOKE_ANCHORS, "learning_rate": 5e-3, "depth": 1},
    )
    Options: ClassVar[type[DetectorOptions]] = RetinaNetOptions
    options: RetinaNetOptions

    def __init__(self, options: RetinaNetOptions, classes: tuple[str, ...], channels: int = 3) -> None:
        super().__init__(options, classes, channels)
        backbone = timm_backbone(options.backbone, options.weights, channels, (8, 16, 32), options.frozen_stride)
        self.features = build_features(backbone, "fpn", options.width, extra=1, image_size=options.image_size)
        strides = self.features.strides
        self.anchors = Anchors(stated_shapes(strides, options.scales, options.ratios), strides)
        self.head = DenseHead(options.width, options.depth, len(strides), self.anchors.per_cell, self.kinds)

    def raw(self, images: Tensor) -> tuple[Tensor, Tensor]:
        maps = self.features(images)
        logits, offsets = self.head(maps)
        boxes = decode(offsets, self.anchors(maps))
        return clip(boxes, int(images.shape[2]), int(images.shape[3])), logits.sigmoid()

    def losses(self, images: Tensor, truth: list[Tensor], batch: Batch) -> Losses:
        maps = self.features(images)
        logits, offsets = self.head(maps)
        anchors = self.anchors(maps)
        matched = torch.stack([match(anchors, boxes[:, :4], 0.5, 0.4) for boxes in truth])
        matched = without_ignored(matched, centres_and_sizes(anchors)[0], batch["valid"])
        positive = matched >= 0
        count = positive.sum().clamp(min=1)
        labels, wanted = targets(matched, truth)
        options = self.options
        classes = focal(logits, one_hot(labels, self.kinds), options.focal_alpha, options.focal_gamma)
        references = anchors.expand(len(truth), -1, -1)[positive]
        places = box_loss(options.box_loss, offsets[positive], references, wanted[positive])
        return {
            "class_loss": classes[matched != IGNORED].sum() / count,
            "box_loss": places.sum() / count,
        }
