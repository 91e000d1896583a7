"""SSD: default boxes of many sizes on maps of many scales, each map on its own."""

import math
from typing import ClassVar, Literal

import numpy as np
import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor, nn

from blemish.methods.base import Batch, MethodInfo
from blemish.methods.detection.anchors import Anchors, Positive
from blemish.methods.detection.boxes import centres_and_sizes, clip, decode
from blemish.methods.detection.detector import SMOKE, Detector, DetectorOptions, Losses, overlap_option
from blemish.methods.detection.heads import by_reference
from blemish.methods.detection.losses import BoxLoss, box_loss
from blemish.methods.detection.matching import BACKGROUND, match, targets, without_ignored
from blemish.methods.detection.pyramid import build_features, conv, timm_backbone

VARIANCES = (0.1, 0.2)


class SSDOptions(DetectorOptions):
    neck: Literal["source", "fpn"] = Field(
        "source", description="source: each map by itself, as in the paper; fpn: coarse maps add to finer ones"
    )
    extra: int = Field(2, ge=0, le=4, description="coarser maps beyond the backbone's strides 8, 16 and 32")
    depth: int = Field(
        0, ge=0, le=8, description="convolutions of each map's heads before their last, the paper's only"
    )
    first_scale: float = Field(0.1, gt=0, lt=1, description="side of the finest map's boxes, as a share of the image")
    least_scale: float = Field(0.2, gt=0, lt=1, description="of the next map's; those between grow linearly")
    most_scale: float = Field(0.9, gt=0, le=1, description="of the coarsest map's")
    ratios: tuple[Positive, ...] = Field(
        (2.0, 4.0, 8.0), description="stretches of default boxes beside squares, both ways"
    )
    between: Literal["square", "stretched"] = Field(
        "stretched", description="boxes of the sizes between two scales: squares alone, as in the paper, or all shapes"
    )
    anchors: Literal["stated", "fitted"] = Field("stated", description="fitted: by k-means of the training boxes")
    negatives: float = Field(3.0, ge=1, description="background places that count, to each that finds a box")
    suppression_iou: float = overlap_option(0.45)
    box_loss: BoxLoss = Field("smooth-l1", description="smooth-l1 (the paper's, on offsets), giou or ciou (on boxes)")


class SSD(Detector):
    """Liu et al. 2016, "SSD: Single Shot MultiBox Detector", ECCV.

    Kept: default boxes of a tenth of the image on the finest of the five maps, of two to nine tenths on the others;
    matching at IoU 0.5 or best; softmax with background; hard negatives three to one; smooth L1 on offsets with
    variances 0.1 and 0.2; suppression at 0.45. Deviations: stretches are 2, 4 and 8 for the paper's 2 and 3, and boxes
    of the sizes in between two scales are stretched too, since defects are longer than things on photographs: of the
    scratches on rolled steel 60 % overlap none of the paper's boxes by half, and 4 % none of these; the default box
    that fits a defect best learns the defect that it overlaps most, should that be another; smooth L1 is linear from
    1/9 on (the paper: 1); a light pretrained backbone, a 3 x 3 convolution to a common width before each map's
    predictor (which takes the place of the paper's L2 normalisation), AdamW, averaged weights; the common augmentation,
    since with the paper's crops (`crop`, `canvas`) so short a training does worse.
    """

    info: ClassVar[MethodInfo] = MethodInfo(
        name="ssd",
        branch="detection",
        title="SSD",
        paper="Liu et al. 2016, SSD: Single Shot MultiBox Detector, ECCV",
        requires=("boxes",),
        answers=("what", "where"),
        summary="One-stage detector with default boxes on maps of several scales; light and quick.",
        smoke={**SMOKE, "steps": 20},
    )
    Options: ClassVar[type[DetectorOptions]] = SSDOptions
    options: SSDOptions

    def __init__(self, options: SSDOptions, classes: tuple[str, ...], channels: int = 3) -> None:
        super().__init__(options, classes, channels)
        backbone = timm_backbone(options.backbone, options.weights, channels, (8, 16, 32), options.frozen_stride)
        self.features = (
            SourceMaps(backbone, options.width, options.extra)
            if options.neck == "source"
            else build_features(backbone, options.neck, options.width, options.extra, options.image_size)
        )
        strides = self.features.strides
        scales = [options.first_scale, *np.linspace(options.least_scale, options.most_scale, len(strides) - 1).tolist()]
        self.anchors = Anchors(default_shapes(options.image_size, scales, options.ratios, options.between), strides)
        count = self.anchors.per_cell
        self.classify = nn.ModuleList(head(options.width, options.depth, count * (self.kinds + 1)) for _ in strides)
        self.locate = nn.ModuleList(head(options.width, options.depth, count * 4) for _ in strides)

    def predict(self, images: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Logits (N, K, 1 + C), background first, offsets (N, K, 4) and default boxes (K, 4)."""
        maps = self.features(images)
        logits = [by_reference(f(x), self.kinds + 1) for f, x in zip(self.classify, maps, strict=True)]
        offsets = [by_reference(f(x), 4) for f, x in zip(self.locate, maps, strict=True)]
        return torch.cat(logits, dim=1), torch.cat(offsets, dim=1), self.anchors(maps)

    def raw(self, images: Tensor) -> tuple[Tensor, Tensor]:
        logits, offsets, anchors = self.predict(images)
        boxes = decode(offsets, anchors, VARIANCES)
        return clip(boxes, int(images.shape[2]), int(images.shape[3])), logits.softmax(dim=2)[..., 1:]

    def losses(self, images: Tensor, truth: list[Tensor], batch: Batch) -> Losses:
        logits, offsets, anchors = self.predict(images)
        matched = torch.stack([match(anchors, boxes[:, :4], 0.5, 0.5) for boxes in truth])
        matched = without_ignored(matched, centres_and_sizes(anchors)[0], batch["valid"])
        positive = matched >= 0
        labels, wanted = targets(matched, truth)
        classes = F.cross_entropy(logits.flatten(0, 1), labels.flatten() + 1, reduction="none").view_as(matched)
        worst = hard_negatives(classes.detach(), positive, matched == BACKGROUND, self.options.negatives)
        references = anchors.expand(len(truth), -1, -1)[positive]
        places = box_loss(self.options.box_loss, offsets[positive], references, wanted[positive], VARIANCES)
        count = positive.sum().clamp(min=1)
        return {"class_loss": classes[positive | worst].sum() / count, "box_loss": places.sum() / count}


class SourceMaps(nn.Module):
    """The backbone's maps and coarser ones after it, each brought to the same width by itself."""

    def __init__(self, backbone: nn.Module, width: int, extra: int) -> None:
        super().__init__()
        self.backbone = backbone
        self.strides = [*backbone.strides, *(backbone.strides[-1] * 2 ** (i + 1) for i in range(extra))]
        self.enter = nn.ModuleList(conv(channels, width) for channels in backbone.channels)
        self.coarser = nn.ModuleList(
            nn.Sequential(conv(width, width // 2, 1), conv(width // 2, width, stride=2)) for _ in range(extra)
        )

    def forward(self, images: Tensor) -> list[Tensor]:
        maps = [enter(x) for enter, x in zip(self.enter, self.backbone(images), strict=True)]
        for layer in self.coarser:
            maps.append(layer(maps[-1]))
        return maps


def head(width: int, depth: int, numbers: int) -> nn.Sequential:
    return nn.Sequential(*(conv(width, width) for _ in range(depth)), nn.Conv2d(width, numbers, 3, padding=1))


def default_shapes(
    side: int, scales: list[float], ratios: tuple[float, ...], between: Literal["square", "stretched"]
) -> Tensor:
    """(L, A, 2) widths and heights in px: the paper's section 2.2, and of the sizes in between its squares or all."""
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
    """Of losses (N, K), the largest among the negative: `ratio` times as many in each image as are positive.

    An image without a defect gives as many as one with a single defect's place would.
    """
    counts = (ratio * positive.sum(dim=1, keepdim=True).clamp(min=1)).long()
    ranked = losses.masked_fill(~negative, -1.0).argsort(dim=1, descending=True).argsort(dim=1)
    return (ranked < counts) & negative
