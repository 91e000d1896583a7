"""Faster R-CNN: propose regions that may hold a defect, then classify each and refine its box."""

from dataclasses import dataclass
from typing import ClassVar, Literal

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor, nn
from torchvision.models.detection.faster_rcnn import TwoMLPHead
from torchvision.models.detection.rpn import RPNHead

from blemish.methods.base import Batch, MethodInfo, ignored_when
from blemish.methods.common.losses import focal_loss
from blemish.methods.detection.anchors import AnchorGenerator, AnchorSizes, anchor_shapes
from blemish.methods.detection.boxes import centres_and_sizes, clip_boxes, decode_boxes
from blemish.methods.detection.detector import SMOKE_REGIONS, Detector, DetectorOptions, Losses
from blemish.methods.detection.heads import flatten_cells
from blemish.methods.detection.losses import BoxLoss, box_loss
from blemish.methods.detection.matching import (
    IGNORED,
    gather_targets,
    ignore_invalid,
    match_boxes,
    match_proposals,
    sample_matches,
)
from blemish.methods.detection.pyramid import STRIDES, build_features
from blemish.methods.detection.roi import Pooling, RegionPool
from blemish.methods.detection.suppression import Suppression, suppress

STAGE_IOUS = (0.5, 0.6, 0.7)  # overlap with a box from which each stage's proposals are positive
STAGE_VARIANCES = tuple((0.1 / n, 0.2 / n) for n in (1, 2, 3))  # of each stage's offsets
ROI_SIDE = 7  # of the grid of features of a proposal


class FasterRCNNOptions(DetectorOptions):
    neck: Literal["fpn", "single"] = Field(
        "fpn", description="fpn: a pyramid; single: one map, as in the original paper"
    )
    stride: int = Field(
        16, ge=4, le=32, description="of the map where neck is single", json_schema_extra=ignored_when("neck", "fpn")
    )
    scales: AnchorSizes = Field(
        (3.0, 4.5),
        description="anchor sides in a pyramid, in strides of their level",
        json_schema_extra=ignored_when("neck", "single"),
    )
    sides: AnchorSizes = Field(
        (0.21, 0.43, 0.85),
        description="anchor sides on a single map, in sides of the image",
        json_schema_extra=ignored_when("neck", "fpn"),
    )
    ratios: AnchorSizes = Field((0.125, 0.35, 1.0, 2.8, 8.0), description="anchor heights, in widths")
    anchors: Literal["stated", "fitted"] = Field("stated", description="fitted: by k-means of the training boxes")
    pooling: Pooling = Field("align", description="features of a proposal: align (RoIAlign) or pool (RoIPool)")
    class_loss: Literal["cross-entropy", "focal"] = Field("cross-entropy", description="of the second stage")
    box_loss: BoxLoss = Field("smooth-l1", description="of the second stage: smooth-l1, giou or ciou")
    hidden: int = Field(256, ge=8, le=4096, description="width of the second stage's two hidden layers")
    proposals: int = Field(100, ge=1, le=2000, description="proposals of an image that the second stage classifies")
    sampled: int = Field(64, ge=4, le=2048, description="proposals of an image that the second stage is trained on")
    positive_share: float = Field(0.25, gt=0, le=1, description="largest share of these that are defects")
    cascade: int = Field(1, ge=1, le=3, description="number of second stages in a row, each for a closer fit")


@dataclass(frozen=True)
class SampledProposals:
    """R proposals of each of N images that the second stage is trained on, and their targets."""

    boxes: Tensor  # (N, R, 4)
    is_real: Tensor  # (N, R) bool, False for padding
    matches: Tensor  # (N, R) index of the assigned box, else BACKGROUND or IGNORED
    labels: Tensor  # (N, R) class, -1 where no box is assigned
    targets: Tensor  # (N, R, 4) assigned box


class RegionHead(nn.Module):
    """Classifies a proposal and refines its box."""

    def __init__(self, channels: int, hidden: int, classes: int) -> None:
        super().__init__()
        self.hidden = TwoMLPHead(channels * ROI_SIDE**2, hidden)
        self.classifier = nn.Linear(hidden, classes + 1)
        self.regressor = nn.Linear(hidden, classes * 4)

    def forward(self, features: Tensor) -> tuple[Tensor, Tensor]:
        """Features (R, D, ROI_SIDE, ROI_SIDE) to logits (R, 1 + C), background first, and offsets (R, C * 4)."""
        x = self.hidden(features)
        return self.classifier(x), self.regressor(x)


class FasterRCNN(Detector):
    """Ren et al. 2015, "Faster R-CNN: Towards Real-Time Object Detection with Region Proposal Networks", NeurIPS.

    On torchvision's region proposal head, box head and pooling, with Lin et al. 2017's feature pyramid by default.
    Kept: anchors matched at IoU 0.7 and 0.3 and sampled 256 an image, half of them positive at most; proposals
    suppressed at 0.7; proposals matched at 0.5, a quarter of them defects at most; boxes of each class; the true boxes
    are added to the proposals. Deviations: anchors that reach beyond the image take part (the paper drops them in
    training); of all levels together the best 300 go into the suppression of proposals (the pyramid's paper: 1000 to
    2000 of each level); smooth L1 is linear from 1/9 on (the paper: 1); a light backbone and narrower layers, a pyramid
    from stride 8 on (the paper of the pyramid: 4), anchors of five shapes for long defects (the paper: three, 1 : 2 at
    most), fewer proposals and samples of them (64 for 512 of the paper), since a surface has few defects; both stages
    are trained together; AdamW, averaged weights.

    `cascade` = 2 or 3 adds the heads of Cai & Vasconcelos 2018, "Cascade R-CNN: Delving into High Quality Object
    Detection", CVPR: each is trained on the boxes of the one before, at IoU 0.6 and 0.7 with offsets on a finer scale;
    the output is the last one's boxes with the mean of all scores; the stages' losses weigh alike. Deviations: boxes of
    each class, as with a single head; the box of a proposal's most probable class goes on to the next stage; the true
    boxes are added in the first stage only.
    """

    info: ClassVar[MethodInfo] = MethodInfo(
        name="faster-rcnn",
        branch="detection",
        title="Faster R-CNN",
        paper="Ren et al. 2015, Faster R-CNN: Towards Real-Time Object Detection, NeurIPS",
        requires=("boxes",),
        answers=("what", "where"),
        summary="Two-stage detector: proposes regions, then classifies each and refines its box.",
        smoke=SMOKE_REGIONS,
    )
    Options: ClassVar[type[DetectorOptions]] = FasterRCNNOptions
    options: FasterRCNNOptions

    def __init__(self, options: FasterRCNNOptions, classes: tuple[str, ...], channels: int = 3) -> None:
        super().__init__(options, classes, channels)
        pyramid = options.neck == "fpn"
        strides = STRIDES if pyramid else (options.stride,)
        self.features = build_features(options, channels, options.neck, extra=int(pyramid), strides=strides)
        levels = self.features.strides
        scales = options.scales
        if not pyramid:  # one map has to cover defects of all sizes
            scales = tuple(side * options.image_size / options.stride for side in options.sides)
        self.anchors = AnchorGenerator(anchor_shapes(levels, scales, options.ratios), levels)
        self.rpn_head = RPNHead(options.width, self.anchors.per_cell)
        self.pool = RegionPool(options.pooling, ROI_SIDE, list(strides))
        heads = [RegionHead(options.width, options.hidden, self.num_classes) for _ in range(options.cascade)]
        self.heads = nn.ModuleList(heads)

    def predict_anchors(self, maps: list[Tensor]) -> tuple[Tensor, Tensor, Tensor]:
        """Objectness logits (N, K), offsets (N, K, 4) and anchors (K, 4) of the first stage."""
        objectness, offsets = self.rpn_head(maps)
        logits = torch.cat([flatten_cells(x, 1) for x in objectness], dim=1).squeeze(2)
        return logits, torch.cat([flatten_cells(x, 4) for x in offsets], dim=1), self.anchors(maps)

    def propose(self, images: Tensor, logits: Tensor, offsets: Tensor, anchors: Tensor) -> tuple[Tensor, Tensor]:
        """Proposals (N, R, 4), and whether each is real (N, R) or padding."""
        boxes = clip_boxes(decode_boxes(offsets, anchors), images)
        count = self.options.proposals
        settings = Suppression(iou=0.7, candidates=3 * count, max_boxes=count, min_score=0.0)
        proposals = suppress(boxes, logits.sigmoid()[..., None], settings)
        return proposals["boxes"], proposals["box_scores"] > 0

    def predict_regions(self, stage: int, maps: list[Tensor], proposals: Tensor) -> tuple[Tensor, Tensor]:
        """Logits (N, R, 1 + C), background first, and offsets (N, R, C, 4) of proposals (N, R, 4)."""
        logits, offsets = self.heads[stage](self.pool(maps, proposals))
        count = int(proposals.shape[1])
        return logits.view(-1, count, self.num_classes + 1), offsets.view(-1, count, self.num_classes, 4)

    def refine(self, stage: int, images: Tensor, offsets: Tensor, proposals: Tensor) -> Tensor:
        """Boxes (N, R, C, 4) of each class from offsets (N, R, C, 4) to proposals (N, R, 4)."""
        return clip_boxes(decode_boxes(offsets, proposals[:, :, None], STAGE_VARIANCES[stage]), images)

    def predict(self, images: Tensor) -> tuple[Tensor, Tensor]:
        return self.predict_from_maps(self.features(images), images)

    def predict_from_maps(self, maps: list[Tensor], images: Tensor) -> tuple[Tensor, Tensor]:
        """Like `predict`, from the feature maps of the images."""
        proposals, is_real = self.propose(images, *self.predict_anchors(maps))
        scores: list[Tensor] = []
        boxes = proposals[:, :, None]
        for stage in range(len(self.heads)):
            if stage:
                proposals = most_probable_boxes(boxes, scores[-1])
            logits, offsets = self.predict_regions(stage, maps, proposals)
            boxes = self.refine(stage, images, offsets, proposals)
            scores.append(logits.softmax(dim=2)[..., 1:])
        return boxes, torch.stack(scores).mean(dim=0) * is_real[..., None]

    def compute_losses(self, batch: Batch) -> Losses:
        return self.losses_from_maps(self.features(batch["image"]), batch)[0]

    def losses_from_maps(self, maps: list[Tensor], batch: Batch) -> tuple[Losses, SampledProposals]:
        """The losses of both stages, from the feature maps of the images, and the second stage's proposals."""
        images, targets, valid = batch["image"], batch["boxes"], batch["valid"]
        logits, offsets, anchors = self.predict_anchors(maps)
        losses = self.proposal_losses(logits, offsets, anchors, targets, valid)
        with torch.no_grad():
            sampled = self.sample_proposals(*self.propose(images, logits, offsets, anchors), targets, valid)
        return losses | self.region_losses(images, maps, sampled, targets, valid), sampled

    def proposal_losses(
        self, logits: Tensor, offsets: Tensor, anchors: Tensor, targets: list[Tensor], valid: Tensor
    ) -> Losses:
        """The losses of the first stage over a sample of each image's anchors."""
        object_losses, box_losses = [], []
        centres = centres_and_sizes(anchors)[0]
        for i, own in enumerate(targets):
            matches = ignore_invalid(match_boxes(anchors, own[:, :4], 0.7, 0.3), centres, valid[i])
            positive, negative = sample_matches(matches, 256, 0.5)
            chosen = torch.cat([positive, negative])
            count = max(1, len(chosen))  # there are none where no pixel is valid
            objectness = (matches[chosen] >= 0).float()
            loss = F.binary_cross_entropy_with_logits(logits[i, chosen], objectness, reduction="sum")
            object_losses.append(loss / count)
            loss = box_loss("smooth-l1", offsets[i, positive], anchors[positive], own[matches[positive], :4])
            box_losses.append(loss.sum() / count)
        return {"object_loss": torch.stack(object_losses).mean(), "proposal_loss": torch.stack(box_losses).mean()}

    def sample_proposals(
        self, proposals: Tensor, is_real: Tensor, targets: list[Tensor], valid: Tensor
    ) -> SampledProposals:
        """A sample of the proposals and the true boxes, with the configured shares of defects and background."""
        count = self.options.sampled
        boxes, used, matches = [], [], []
        for given, real, own, own_valid in zip(proposals, is_real, targets, valid, strict=True):
            candidates = torch.cat([own[:, :4], given[real]])
            matched = match_proposals(candidates, own[:, :4], own_valid, STAGE_IOUS[0])
            chosen = torch.cat(sample_matches(matched, count, self.options.positive_share))
            missing = count - len(chosen)
            boxes.append(F.pad(candidates[chosen], (0, 0, 0, missing)))
            matches.append(F.pad(matched[chosen], (0, missing), value=IGNORED))
            used.append(torch.arange(count, device=candidates.device) < len(chosen))
        all_matches = torch.stack(matches)
        return SampledProposals(
            torch.stack(boxes), torch.stack(used), all_matches, *gather_targets(all_matches, targets)
        )

    def region_losses(
        self, images: Tensor, maps: list[Tensor], sampled: SampledProposals, targets: list[Tensor], valid: Tensor
    ) -> Losses:
        """The sum over the second stages, each trained on the proposals as refined by the stage before."""
        losses = []
        for stage in range(len(self.heads)):
            logits, offsets = self.predict_regions(stage, maps, sampled.boxes)
            losses.append(torch.stack(self.stage_losses(stage, logits, offsets, sampled)))
            if stage + 1 < len(self.heads):
                with torch.no_grad():
                    boxes = self.refine(stage, images, offsets, sampled.boxes)
                    boxes = most_probable_boxes(boxes, logits.softmax(dim=2)[..., 1:])
                    sampled = rematch(boxes, sampled, targets, valid, STAGE_IOUS[stage + 1])
        class_loss, box_loss = torch.stack(losses).sum(dim=0)
        return {"class_loss": class_loss, "box_loss": box_loss}

    def stage_losses(
        self, stage: int, logits: Tensor, offsets: Tensor, sampled: SampledProposals
    ) -> tuple[Tensor, Tensor]:
        """Class and box loss of one second stage."""
        used, positive = sampled.matches >= -1, sampled.matches >= 0
        gamma = 2.0 if self.options.class_loss == "focal" else 0.0
        cross_entropy = F.cross_entropy(logits[used], sampled.labels[used] + 1, reduction="none")
        class_loss = focal_loss(cross_entropy, gamma)
        labels = sampled.labels[positive]
        own = offsets[positive][torch.arange(len(labels), device=offsets.device), labels]
        boxes, targets = sampled.boxes[positive], sampled.targets[positive]
        loss = box_loss(self.options.box_loss, own, boxes, targets, STAGE_VARIANCES[stage])
        count = used.sum().clamp(min=1)
        return class_loss.sum() / count, loss.sum() / count


def most_probable_boxes(boxes: Tensor, scores: Tensor) -> Tensor:
    """The box (N, R, 4) of the most probable class, from boxes (N, R, C, 4) and scores (N, R, C) of the classes."""
    best = scores.argmax(dim=2)[..., None, None].expand(-1, -1, 1, 4)
    return boxes.gather(2, best)[:, :, 0]


def rematch(
    boxes: Tensor, sampled: SampledProposals, targets: list[Tensor], valid: Tensor, iou: float
) -> SampledProposals:
    """The proposals moved to those boxes (N, R, 4), assigned again to the targets at that overlap."""
    images = zip(boxes, sampled.is_real, targets, valid, strict=True)
    matches = torch.stack(
        [
            torch.where(real, match_proposals(given, own[:, :4], own_valid, iou), IGNORED)
            for given, real, own, own_valid in images
        ]
    )
    return SampledProposals(boxes, sampled.is_real, matches, *gather_targets(matches, targets))
