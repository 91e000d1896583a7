"""Faster R-CNN: first where something might be, then, looking closer at each such place, what it is."""

from dataclasses import dataclass
from typing import ClassVar, Literal

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor, nn
from torchvision.models.detection.faster_rcnn import TwoMLPHead
from torchvision.models.detection.rpn import RPNHead

from blemish.methods.base import Batch, MethodInfo, ignored_when
from blemish.methods.detection.anchors import Anchors, Sizes, stated_shapes
from blemish.methods.detection.boxes import centres_and_sizes, clip, decode
from blemish.methods.detection.detector import SMOKE_REGIONS, Detector, DetectorOptions, Losses
from blemish.methods.detection.heads import by_reference
from blemish.methods.detection.losses import BoxLoss, box_loss, focal_softmax
from blemish.methods.detection.matching import IGNORED, match, sample, targets, without_ignored
from blemish.methods.detection.pyramid import build_features, timm_backbone
from blemish.methods.detection.roi import Pooling, RegionPool
from blemish.methods.detection.suppression import Suppression, detections

OVERLAPS = (0.5, 0.6, 0.7)  # with a true box, from which on a region of each stage after the first is to find it
VARIANCES = tuple((0.1 / n, 0.2 / n) for n in (1, 2, 3))  # of those stages' offsets
SIDE = 7  # of the grid of features that the second stage sees of a region


class FasterRCNNOptions(DetectorOptions):
    neck: Literal["fpn", "single"] = Field("fpn", description="fpn: a pyramid; single: one map, as in the first paper")
    stride: int = Field(
        16, ge=4, le=32, description="of the map where neck is single", json_schema_extra=ignored_when("neck", "fpn")
    )
    scales: Sizes = Field(
        (3.0, 4.5),
        description="anchor sides in a pyramid, in strides of their level",
        json_schema_extra=ignored_when("neck", "single"),
    )
    sides: Sizes = Field(
        (0.21, 0.43, 0.85),
        description="anchor sides on a single map, in sides of the image",
        json_schema_extra=ignored_when("neck", "fpn"),
    )
    ratios: Sizes = Field((0.125, 0.35, 1.0, 2.8, 8.0), description="anchor heights, in widths")
    anchors: Literal["stated", "fitted"] = Field("stated", description="fitted: by k-means of the training boxes")
    pooling: Pooling = Field("align", description="features of a region: align (RoIAlign) or pool (RoIPool)")
    class_loss: Literal["cross-entropy", "focal"] = Field("cross-entropy", description="of the second stage")
    box_loss: BoxLoss = Field("smooth-l1", description="of the second stage: smooth-l1, giou or ciou")
    hidden: int = Field(256, ge=8, le=4096, description="width of the second stage's two layers")
    proposals: int = Field(100, ge=1, le=2000, description="regions of an image that the second stage looks at")
    sampled: int = Field(64, ge=4, le=2048, description="regions of an image that the second stage learns from")
    positive_share: float = Field(0.25, gt=0, le=1, description="most of these that may be defects, as a share")
    cascade: int = Field(1, ge=1, le=3, description="second stages one after the other, each for a closer fit")


@dataclass(frozen=True)
class Regions:
    """What the second stage learns from: regions (N, R, 4), and the defect each is to find."""

    boxes: Tensor
    real: Tensor  # (N, R) or else padding
    found: Tensor  # (N, R) index of the true box, else BACKGROUND or IGNORED
    labels: Tensor  # (N, R) class, -1 where there is none
    wanted: Tensor  # (N, R, 4) true box


class RegionHead(nn.Module):
    """Names a region, and corrects its box."""

    def __init__(self, channels: int, hidden: int, kinds: int) -> None:
        super().__init__()
        self.look = TwoMLPHead(channels * SIDE**2, hidden)
        self.name_region = nn.Linear(hidden, kinds + 1)
        self.place_region = nn.Linear(hidden, kinds * 4)

    def forward(self, seen: Tensor) -> tuple[Tensor, Tensor]:
        """Features (R, D, SIDE, SIDE) of regions to logits (R, 1 + C), background first, and offsets (R, C * 4)."""
        x = self.look(seen)
        return self.name_region(x), self.place_region(x)


class FasterRCNN(Detector):
    """Ren et al. 2015, "Faster R-CNN: Towards Real-Time Object Detection with Region Proposal Networks", NeurIPS.

    On torchvision's region proposal head, box head and pooling, with Lin et al. 2017's feature pyramid by default.
    Kept: anchors matched at IoU 0.7 and 0.3 and sampled 256 an image, half of them positive at most; proposals
    suppressed at 0.7; regions matched at 0.5, a quarter of them defects at most; boxes of each class; the true boxes
    join the proposals. Deviations: anchors that reach beyond the image take part (the paper drops them in training); of
    all levels together the best 300 go into the suppression of proposals (the pyramid's paper: 1000 to 2000 of each
    level); smooth L1 is linear from 1/9 on (the paper: 1); a light backbone and narrower layers, a pyramid from stride
    8 on (the paper of the pyramid: 4), anchors of five shapes for long defects (the paper: three, 1 : 2 at most), fewer
    proposals and regions (64 for 512 of the paper), since a surface shows few defects; both stages learn together;
    AdamW, averaged weights.

    `cascade` = 2 or 3 adds the heads of Cai & Vasconcelos 2018, "Cascade R-CNN: Delving into High Quality Object
    Detection", CVPR: each learns from the boxes of the one before, at IoU 0.6 and 0.7 with offsets on a finer scale;
    the last one's boxes are given, with the mean of all scores; the stages' losses weigh alike. Deviations: boxes of
    each class, as in the one head; a region goes on as the box of its likeliest class; the true boxes take part in the
    first stage alone.
    """

    info: ClassVar[MethodInfo] = MethodInfo(
        name="faster-rcnn",
        branch="detection",
        title="Faster R-CNN",
        paper="Ren et al. 2015, Faster R-CNN: Towards Real-Time Object Detection, NeurIPS",
        requires=("boxes",),
        answers=("what", "where"),
        summary="Two-stage detector: proposes regions, then names each and corrects its box.",
        smoke=SMOKE_REGIONS,
    )
    Options: ClassVar[type[DetectorOptions]] = FasterRCNNOptions
    options: FasterRCNNOptions

    def __init__(self, options: FasterRCNNOptions, classes: tuple[str, ...], channels: int = 3) -> None:
        super().__init__(options, classes, channels)
        pyramid = options.neck == "fpn"
        strides = (8, 16, 32) if pyramid else (options.stride,)
        backbone = timm_backbone(options.backbone, options.weights, channels, strides, options.frozen_stride)
        self.features = build_features(
            backbone, options.neck, options.width, extra=int(pyramid), image_size=options.image_size
        )
        levels = self.features.strides
        scales = options.scales
        if not pyramid:  # one map has to find defects of all sizes
            scales = tuple(side * options.image_size / options.stride for side in options.sides)
        self.anchors = Anchors(stated_shapes(levels, scales, options.ratios), levels)
        self.propose = RPNHead(options.width, self.anchors.per_cell)
        self.pool = RegionPool(options.pooling, SIDE, list(strides))
        heads = [RegionHead(options.width, options.hidden, self.kinds) for _ in range(options.cascade)]
        self.heads = nn.ModuleList(heads)

    def first_stage(self, maps: list[Tensor]) -> tuple[Tensor, Tensor, Tensor]:
        """Objectness logits (N, K), offsets (N, K, 4) and anchors (K, 4)."""
        present, offsets = self.propose(maps)
        logits = torch.cat([by_reference(x, 1) for x in present], dim=1).squeeze(2)
        return logits, torch.cat([by_reference(x, 4) for x in offsets], dim=1), self.anchors(maps)

    def proposals(self, images: Tensor, logits: Tensor, offsets: Tensor, anchors: Tensor) -> tuple[Tensor, Tensor]:
        """Regions (N, R, 4) and whether they are real or padding (N, R)."""
        boxes = clip(decode(offsets, anchors), int(images.shape[2]), int(images.shape[3]))
        how = Suppression(iou=0.7, candidates=3 * self.options.proposals, most=self.options.proposals, min_score=0.0)
        found = detections(boxes, logits.sigmoid()[..., None], how)
        return found["boxes"], found["box_scores"] > 0

    def second_stage(self, stage: int, maps: list[Tensor], regions: Tensor) -> tuple[Tensor, Tensor]:
        """Logits (N, R, 1 + C), background first, and offsets (N, R, C, 4) of regions (N, R, 4)."""
        logits, offsets = self.heads[stage](self.pool(maps, regions))
        count = int(regions.shape[1])
        return logits.view(-1, count, self.kinds + 1), offsets.view(-1, count, self.kinds, 4)

    def corrected(self, stage: int, images: Tensor, offsets: Tensor, regions: Tensor) -> Tensor:
        """Boxes (N, R, C, 4) of each class."""
        boxes = decode(offsets, regions[:, :, None], VARIANCES[stage])
        return clip(boxes, int(images.shape[2]), int(images.shape[3]))

    def raw(self, images: Tensor) -> tuple[Tensor, Tensor]:
        return self.raw_from(self.features(images), images)

    def raw_from(self, maps: list[Tensor], images: Tensor) -> tuple[Tensor, Tensor]:
        """As `raw`, from the feature maps of the images."""
        regions, real = self.proposals(images, *self.first_stage(maps))
        scores, boxes = [], regions[:, :, None]
        for stage in range(len(self.heads)):
            if stage:
                regions = of_likeliest(boxes, scores[-1])
            logits, offsets = self.second_stage(stage, maps, regions)
            boxes = self.corrected(stage, images, offsets, regions)
            scores.append(logits.softmax(dim=2)[..., 1:])
        return boxes, torch.stack(scores).mean(dim=0) * real[..., None]

    def losses(self, images: Tensor, truth: list[Tensor], batch: Batch) -> Losses:
        return self.losses_from(self.features(images), images, truth, batch["valid"])[0]

    def losses_from(
        self, maps: list[Tensor], images: Tensor, truth: list[Tensor], valid: Tensor
    ) -> tuple[Losses, Regions]:
        """Of both stages, from the feature maps of the images, and the regions that the second one learns from."""
        logits, offsets, anchors = self.first_stage(maps)
        found = self.first_losses(logits, offsets, anchors, truth, valid)
        with torch.no_grad():
            regions = self.sampled(*self.proposals(images, logits, offsets, anchors), truth, valid)
        return found | self.second_losses(images, maps, regions, truth, valid), regions

    def first_losses(
        self, logits: Tensor, offsets: Tensor, anchors: Tensor, truth: list[Tensor], valid: Tensor
    ) -> Losses:
        present, placed = [], []
        centres = centres_and_sizes(anchors)[0]
        for i, known in enumerate(truth):
            matched = without_ignored(match(anchors, known[:, :4], 0.7, 0.3), centres, valid[i])
            positive, negative = sample(matched, 256, 0.5)
            chosen = torch.cat([positive, negative])
            wanted = (matched[chosen] >= 0).float()
            count = max(1, len(chosen))  # none at all, where no pixel counts
            present.append(F.binary_cross_entropy_with_logits(logits[i, chosen], wanted, reduction="sum") / count)
            place = box_loss("smooth-l1", offsets[i, positive], anchors[positive], known[matched[positive], :4])
            placed.append(place.sum() / count)
        return {"object_loss": torch.stack(present).mean(), "proposal_loss": torch.stack(placed).mean()}

    def sampled(self, proposals: Tensor, real: Tensor, truth: list[Tensor], valid: Tensor) -> Regions:
        """Regions to learn from: proposals and the true boxes, defects and background in the stated shares."""
        count = self.options.sampled
        boxes, usable, found = [], [], []
        for given, kept, known, counts in zip(proposals, real, truth, valid, strict=True):
            regions = torch.cat([known[:, :4], given[kept]])
            matched = match(regions, known[:, :4], OVERLAPS[0], OVERLAPS[0], force=False)
            matched = without_ignored(matched, centres_and_sizes(regions)[0], counts)
            chosen = torch.cat(sample(matched, count, self.options.positive_share))
            missing = count - len(chosen)
            boxes.append(F.pad(regions[chosen], (0, 0, 0, missing)))
            found.append(F.pad(matched[chosen], (0, missing), value=IGNORED))
            usable.append(torch.arange(count, device=regions.device) < len(chosen))
        matches = torch.stack(found)
        labels, wanted = targets(matches, truth)
        return Regions(torch.stack(boxes), torch.stack(usable), matches, labels, wanted)

    def second_losses(
        self, images: Tensor, maps: list[Tensor], regions: Regions, truth: list[Tensor], valid: Tensor
    ) -> Losses:
        """The sum over the stages, each of which learns from what the one before has made of the regions."""
        named, placed = [], []
        for stage in range(len(self.heads)):
            logits, offsets = self.second_stage(stage, maps, regions.boxes)
            losses = self.stage_losses(stage, logits, offsets, regions)
            named.append(losses[0])
            placed.append(losses[1])
            if stage + 1 < len(self.heads):
                with torch.no_grad():
                    boxes = self.corrected(stage, images, offsets, regions.boxes)
                    boxes = of_likeliest(boxes, logits.softmax(dim=2)[..., 1:])
                    regions = matched_anew(boxes, regions, truth, valid, OVERLAPS[stage + 1])
        return {"class_loss": torch.stack(named).sum(), "box_loss": torch.stack(placed).sum()}

    def stage_losses(self, stage: int, logits: Tensor, offsets: Tensor, regions: Regions) -> tuple[Tensor, Tensor]:
        real, positive = regions.found >= -1, regions.found >= 0
        named = focal_softmax(
            logits[real], regions.labels[real] + 1, 2.0 if self.options.class_loss == "focal" else 0.0
        )
        own = offsets[positive][torch.arange(int(positive.sum()), device=offsets.device), regions.labels[positive]]
        kind, boxes, wanted = self.options.box_loss, regions.boxes[positive], regions.wanted[positive]
        placed = box_loss(kind, own, boxes, wanted, VARIANCES[stage])
        count = real.sum().clamp(min=1)
        return named.sum() / count, placed.sum() / count


def of_likeliest(boxes: Tensor, scores: Tensor) -> Tensor:
    """Boxes (N, R, C, 4) and scores (N, R, C) of the classes to the likeliest one's box (N, R, 4)."""
    best = scores.argmax(dim=2)[..., None, None].expand(-1, -1, 1, 4)
    return boxes.gather(2, best)[:, :, 0]


def matched_anew(boxes: Tensor, regions: Regions, truth: list[Tensor], valid: Tensor, overlap: float) -> Regions:
    """The regions moved to those boxes (N, R, 4), with what each is to find at that overlap."""
    found = []
    for given, real, known, counts in zip(boxes, regions.real, truth, valid, strict=True):
        matched = match(given, known[:, :4], overlap, overlap, force=False)
        matched = without_ignored(matched, centres_and_sizes(given)[0], counts)
        found.append(torch.where(real, matched, IGNORED))
    matches = torch.stack(found)
    return Regions(boxes, regions.real, matches, *targets(matches, truth))
