"""RetinaNet: a one-stage detector with anchors, trained with the focal loss."""

from typing import ClassVar, Literal

from pydantic import Field
from torch import Tensor
from torchvision.ops import sigmoid_focal_loss

from blemish.methods.base import MethodInfo
from blemish.methods.detection.anchors import AnchorGenerator, AnchorSizes, anchor_shapes
from blemish.methods.detection.dense import AnchorDetector
from blemish.methods.detection.detector import SMOKE_ANCHORS, DetectorOptions
from blemish.methods.detection.heads import DenseHead
from blemish.methods.detection.losses import BoxLoss, one_hot
from blemish.methods.detection.matching import IGNORED
from blemish.methods.detection.pyramid import build_features


class RetinaNetOptions(DetectorOptions):
    depth: int = Field(2, ge=0, le=8, description="convolutions in each head before its last")
    scales: AnchorSizes = Field((4.0, 5.04, 6.35), description="anchor sides, in strides of their level")
    ratios: AnchorSizes = Field((0.2, 0.5, 1.0, 2.0, 5.0), description="anchor heights, in widths")
    anchors: Literal["stated", "fitted"] = Field("stated", description="fitted: by k-means of the training boxes")
    box_loss: BoxLoss = Field("giou", description="smooth-l1 (the paper's, on offsets), giou or ciou (on boxes)")
    focal_alpha: float = Field(0.25, ge=0, le=1, description="weight of defects against background in the focal loss")
    focal_gamma: float = Field(
        2.0, ge=0, le=5, description="how strongly easy anchors are down-weighted; 0: not at all"
    )


class RetinaNet(AnchorDetector):
    """Lin et al. 2017, "Focal Loss for Dense Object Detection" (RetinaNet), ICCV.

    Kept: a feature pyramid, anchors of three sizes a cell, two shared heads, focal loss over sigmoids (0.25, 2) divided
    by the number of positive anchors, matching at IoU 0.5 and 0.4, prior probability 0.01. Deviations: the anchors that
    overlap a box most are assigned to it however small the overlap (the paper leaves such a box out); anchors of five
    shapes, since scratches are longer than the paper's three (1 : 2 at most) come near to; a light backbone and heads
    of two convolutions of 96 channels with BatchNorm (the paper: four of 256, without), levels of stride 8 to 64 (to
    128), GIoU loss by default, AdamW, averaged weights.
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
    match_ious = (0.5, 0.4)

    def __init__(self, options: RetinaNetOptions, classes: tuple[str, ...], channels: int = 3) -> None:
        super().__init__(options, classes, channels)
        self.features = build_features(options, channels, "fpn", extra=1)
        strides = self.features.strides
        self.anchors = AnchorGenerator(anchor_shapes(strides, options.scales, options.ratios), strides)
        self.head = DenseHead(options.width, options.depth, len(strides), self.anchors.per_cell, self.num_classes)
        self.box_loss = options.box_loss

    def class_scores(self, logits: Tensor) -> Tensor:
        return logits.sigmoid()

    def class_loss(self, logits: Tensor, labels: Tensor, matches: Tensor) -> Tensor:
        options, targets = self.options, one_hot(labels, self.num_classes)
        loss = sigmoid_focal_loss(logits, targets, options.focal_alpha, options.focal_gamma, reduction="none")
        return loss[matches != IGNORED].sum()
