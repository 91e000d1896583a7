"""YOLO without anchors: every place of three maps says whether there is a defect, which, and how far it reaches."""

from typing import ClassVar, Literal

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor, nn

from blemish.methods.base import Batch, MethodInfo
from blemish.methods.common.backbones import check_from_scratch
from blemish.methods.detection.boxes import clip, points_of
from blemish.methods.detection.csp import CSPDarknet
from blemish.methods.detection.detector import SMOKE, Detector, DetectorOptions, Losses
from blemish.methods.detection.heads import by_reference, prior_bias
from blemish.methods.detection.losses import one_hot, overlap_loss
from blemish.methods.detection.matching import counted
from blemish.methods.detection.pyramid import build_features, conv, timm_backbone
from blemish.methods.detection.sim_ota import assign

SIZES = {"nano": (64, 1), "small": (96, 1), "medium": (160, 2)}  # width of the maps, depth of the blocks
BOX_WEIGHT = 5.0
MOST_GROWTH = 8.0  # of the logarithm of a side in strides: keeps exp() finite


class YoloOptions(DetectorOptions):
    size: Literal["nano", "small", "medium"] = Field("nano", description="width and depth: nano, small or medium")
    width: int | None = Field(None, ge=8, le=1024, description="channels of the feature maps; null: as the size says")
    backbone: str = Field(
        DetectorOptions.model_fields["backbone"].default,
        description="timm name, or csp: a CSPDarknet of the size, learnt from scratch, at the full learning rate",
    )
    steps: int = Field(3000, ge=1, description="training steps, each of one batch")
    mosaic: float = Field(0.5, ge=0, le=1, description="share of training images put together from four")
    box_loss: Literal["giou", "ciou"] = Field("ciou", description="how found boxes are compared: giou or ciou")


class Yolo(Detector):
    """Ge et al. 2021, "YOLOX: Exceeding YOLO Series in 2021".

    Kept: no anchors, decoupled heads with objectness, SimOTA assignment, class targets scaled by the overlap, a path
    aggregation neck of CSP blocks, strong augmentation that ends before training does, averaged weights. Deviations: a
    pretrained backbone by default (`backbone=csp` is the paper's kind), one width for all levels, CIoU loss, AdamW,
    mosaics of half the images, of which each part is shrunk twofold at most (the paper: all, at scales from 0.1 to 2),
    without mixing; images of one size (the paper: of several); no further L1 loss at the end.
    """

    info: ClassVar[MethodInfo] = MethodInfo(
        name="yolo",
        branch="detection",
        title="YOLO",
        paper="Ge et al. 2021, YOLOX: Exceeding YOLO Series in 2021, arXiv 2107.08430",
        requires=("boxes",),
        answers=("what", "where"),
        summary="One-stage detector without anchors, small and quick; in three sizes.",
        smoke={**SMOKE, "mosaic": 0},
    )
    Options: ClassVar[type[DetectorOptions]] = YoloOptions
    options: YoloOptions

    def __init__(self, options: YoloOptions, classes: tuple[str, ...], channels: int = 3) -> None:
        super().__init__(options, classes, channels)
        standard, depth = SIZES[options.size]
        width = options.width or standard
        backbone: nn.Module
        if options.backbone == "csp":
            check_from_scratch(options, {"weights": "random", "frozen_stride": 0, "backbone_rate": 1.0})
            backbone = CSPDarknet(channels, width // 4, depth)
        else:
            backbone = timm_backbone(options.backbone, options.weights, channels, (8, 16, 32), options.frozen_stride)
        self.features = build_features(backbone, "pan", width, image_size=options.image_size, depth=depth)
        self.heads = nn.ModuleList(DecoupledHead(width, self.kinds) for _ in self.features.strides)

    def predict(self, images: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Boxes (N, K, 4), logits (N, K, 1 + C), objectness first, and the places' points (K, 2) and strides (K,)."""
        boxes, logits, points, strides = [], [], [], []
        maps = self.features(images)
        for x, head, stride in zip(maps, self.heads, self.features.strides, strict=True):
            named, placed = head(x)
            centres = points_of(int(x.shape[2]), int(x.shape[3]), stride).to(x.device)
            middle = centres + placed[..., :2] * stride
            half = placed[..., 2:].clamp(max=MOST_GROWTH).exp() * stride / 2
            boxes.append(torch.cat([middle - half, middle + half], dim=-1))
            logits.append(named)
            points.append(centres)
            strides.append(centres.new_full((len(centres),), stride))
        return torch.cat(boxes, dim=1), torch.cat(logits, dim=1), torch.cat(points), torch.cat(strides)

    def raw(self, images: Tensor) -> tuple[Tensor, Tensor]:
        boxes, logits, _, _ = self.predict(images)
        scores = logits.sigmoid()
        return clip(boxes, int(images.shape[2]), int(images.shape[3])), scores[..., :1] * scores[..., 1:]

    def losses(self, images: Tensor, truth: list[Tensor], batch: Batch) -> Losses:
        boxes, logits, points, strides = self.predict(images)
        scores = logits.detach().sigmoid()
        objectness, wanted = torch.zeros_like(logits[..., 0]), []
        rows, labels, overlaps, targets = [], [], [], []
        for i, known in enumerate(truth):
            found = assign(points, strides, boxes[i].detach(), (scores[i, :, :1] * scores[i, :, 1:]).sqrt(), known)
            objectness[i, found.places] = 1.0
            rows.append(torch.stack([torch.full_like(found.places, i), found.places]))
            labels.append(known[found.boxes, 4].long())
            overlaps.append(found.iou)
            targets.append(known[found.boxes, :4])
        image, place = torch.cat(rows, dim=1)
        count = max(1, len(place))
        wanted = one_hot(torch.cat(labels), self.kinds) * torch.cat(overlaps)[:, None]
        placed = overlap_loss(self.options.box_loss, boxes[image, place], torch.cat(targets))
        named = F.binary_cross_entropy_with_logits(logits[image, place, 1:], wanted, reduction="sum")
        learnt = (objectness > 0) | counted(points, batch["valid"])
        present = F.binary_cross_entropy_with_logits(logits[..., 0][learnt], objectness[learnt], reduction="sum")
        return {
            "box_loss": BOX_WEIGHT * placed.sum() / count,
            "class_loss": named / count,
            "object_loss": present / count,
        }


class DecoupledHead(nn.Module):
    """Of one level: logits (N, h * w, 1 + C), objectness first, and box numbers (N, h * w, 4)."""

    def __init__(self, width: int, kinds: int) -> None:
        super().__init__()
        self.kinds = kinds
        self.enter = conv(width, width, 1)
        self.name = nn.Sequential(conv(width, width), conv(width, width), nn.Conv2d(width, kinds, 1))
        self.place = nn.Sequential(conv(width, width), conv(width, width))
        self.box, self.present = nn.Conv2d(width, 4, 1), nn.Conv2d(width, 1, 1)
        for last in (self.name[-1], self.present):
            nn.init.constant_(last.bias, prior_bias())

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        x = self.enter(x)
        placed = self.place(x)
        logits = torch.cat([self.present(placed), self.name(x)], dim=1)
        return by_reference(logits, 1 + self.kinds), by_reference(self.box(placed), 4)
