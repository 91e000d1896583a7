"""YOLO without anchors: every location of three maps predicts whether there is a defect, its class and its box."""

from typing import ClassVar, Literal

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor, nn

from blemish.methods.base import MethodInfo
from blemish.methods.common.backbones import reject_pretrained_options
from blemish.methods.detection.boxes import aligned_iou, level_locations
from blemish.methods.detection.csp import CSPDarknet
from blemish.methods.detection.dense import DenseDetector, DensePredictions
from blemish.methods.detection.detector import SMOKE, DetectorOptions, Losses
from blemish.methods.detection.heads import PRIOR_BIAS, flatten_cells
from blemish.methods.detection.losses import IoULoss, iou_loss, one_hot
from blemish.methods.detection.matching import IGNORED
from blemish.methods.detection.pyramid import build_features, conv
from blemish.methods.detection.sim_ota import assign_sim_ota

SIZES = {"nano": (64, 1), "small": (96, 1), "medium": (160, 2)}  # width of the maps, depth of the blocks
BOX_WEIGHT = 5.0
MAX_LOG_SIDE = 8.0  # logarithm of a side in strides: keeps exp() finite


class YoloOptions(DetectorOptions):
    size: Literal["nano", "small", "medium"] = Field("nano", description="width and depth: nano, small or medium")
    width: int | None = Field(  # type: ignore[assignment]
        None, ge=8, le=1024, description="channels of the feature maps; null: those of the size"
    )
    backbone: str = Field(
        DetectorOptions.model_fields["backbone"].default,
        description="timm name, or csp: a CSPDarknet of the size, trained from scratch at the full learning rate",
    )
    steps: int = Field(3000, ge=1, description="training steps, each of one batch")
    mosaic: float = Field(0.5, ge=0, le=1, description="share of training images that are mosaics of four")
    box_loss: IoULoss = Field("ciou", description="how predicted boxes are compared: giou or ciou")


class Yolo(DenseDetector):
    """Ge et al. 2021, "YOLOX: Exceeding YOLO Series in 2021".

    Kept: no anchors, decoupled heads with objectness, SimOTA assignment, class targets scaled by the overlap, a path
    aggregation neck of CSP blocks, strong augmentation that ends before training does, averaged weights. Deviations: a
    pretrained backbone by default (`backbone=csp` is the paper's kind), one width for all levels, CIoU loss, AdamW,
    mosaics of half the images, whose quarters are shrunk twofold at most (the paper: all, at scales from 0.1 to 2),
    without mixup; images of one size (the paper: of several); no additional L1 loss at the end.
    """

    info: ClassVar[MethodInfo] = MethodInfo(
        name="yolo",
        branch="detection",
        title="YOLO",
        paper="Ge et al. 2021, YOLOX: Exceeding YOLO Series in 2021, arXiv 2107.08430",
        requires=("boxes",),
        answers=("what", "where"),
        summary="One-stage detector without anchors, small and fast; in three sizes.",
        smoke={**SMOKE, "mosaic": 0},
    )
    Options: ClassVar[type[DetectorOptions]] = YoloOptions
    options: YoloOptions

    def __init__(self, options: YoloOptions, classes: tuple[str, ...], channels: int = 3) -> None:
        super().__init__(options, classes, channels)
        default_width, depth = SIZES[options.size]
        width = options.width or default_width
        backbone = None
        if options.backbone == "csp":
            reject_pretrained_options(options, {"weights": "random", "frozen_stride": 0, "backbone_rate": 1.0})
            backbone = CSPDarknet(channels, width // 4, depth)
        self.features = build_features(options, channels, "pan", backbone=backbone, width=width, depth=depth)
        self.heads = nn.ModuleList(DecoupledHead(width, self.num_classes) for _ in self.features.strides)

    def predict_dense(self, images: Tensor) -> DensePredictions:
        maps = self.features(images)
        locations, strides = level_locations(maps, self.features.strides)
        levels = [head(x) for head, x in zip(self.heads, maps, strict=True)]
        logits, outputs = (torch.cat(parts, dim=1) for parts in zip(*levels, strict=True))
        centre = locations + outputs[..., :2] * strides[:, None]
        half = outputs[..., 2:].clamp(max=MAX_LOG_SIDE).exp() * strides[:, None] / 2
        boxes = torch.cat([centre - half, centre + half], dim=-1)
        return DensePredictions(logits, boxes, locations, strides)

    def predict(self, images: Tensor) -> tuple[Tensor, Tensor]:
        predictions = self.predict_dense(images)
        scores = predictions.logits.sigmoid()
        return predictions.boxes, scores[..., :1] * scores[..., 1:]

    def assign(self, predictions: DensePredictions, image: int, targets: Tensor) -> Tensor:
        probabilities = predictions.logits[image].detach().sigmoid()
        scores = (probabilities[:, :1] * probabilities[:, 1:]).sqrt()
        boxes = predictions.boxes[image].detach()
        return assign_sim_ota(predictions.locations, predictions.references, boxes, scores, targets)

    def assigned_losses(self, predictions: DensePredictions, matches: Tensor, labels: Tensor, boxes: Tensor) -> Losses:
        positive = matches >= 0
        count = max(1, int(positive.sum()))
        predicted, targets = predictions.boxes[positive], boxes[positive]
        box_loss = iou_loss(self.options.box_loss, predicted, targets)
        classes = one_hot(labels[positive], self.num_classes) * aligned_iou(targets, predicted.detach())[:, None]
        class_loss = F.binary_cross_entropy_with_logits(predictions.logits[positive][:, 1:], classes, reduction="sum")
        used = matches != IGNORED
        object_loss = F.binary_cross_entropy_with_logits(
            predictions.logits[..., 0][used], positive[used].float(), reduction="sum"
        )
        return {
            "box_loss": BOX_WEIGHT * box_loss.sum() / count,
            "class_loss": class_loss / count,
            "object_loss": object_loss / count,
        }


class DecoupledHead(nn.Module):
    """Logits (N, h * w, 1 + C), objectness first, and box outputs (N, h * w, 4) of one level."""

    def __init__(self, width: int, classes: int) -> None:
        super().__init__()
        self.classes = classes
        self.enter = conv(width, width, 1)
        self.classifier = nn.Sequential(conv(width, width), conv(width, width), nn.Conv2d(width, classes, 1))
        self.box_tower = nn.Sequential(conv(width, width), conv(width, width))
        self.regressor, self.objectness = nn.Conv2d(width, 4, 1), nn.Conv2d(width, 1, 1)
        for last in (self.classifier[-1], self.objectness):
            nn.init.constant_(last.get_parameter("bias"), PRIOR_BIAS)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        x = self.enter(x)
        tower = self.box_tower(x)
        logits = torch.cat([self.objectness(tower), self.classifier(x)], dim=1)
        return flatten_cells(logits, 1 + self.classes), flatten_cells(self.regressor(tower), 4)
