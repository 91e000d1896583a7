"""FCOS: every place inside a defect tells how far it is to the defect's four sides; no anchors."""

from typing import ClassVar, Literal

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor, nn

from blemish.methods.base import Batch, MethodInfo
from blemish.methods.detection.boxes import clip, from_distances, points_of, to_distances
from blemish.methods.detection.detector import SMOKE, Detector, DetectorOptions, Losses
from blemish.methods.detection.heads import DenseHead
from blemish.methods.detection.losses import focal, one_hot, overlap_loss
from blemish.methods.detection.matching import BACKGROUND, IGNORED, targets, without_ignored
from blemish.methods.detection.pyramid import build_features, timm_backbone

REACH = 8.0  # strides: a level finds boxes whose farthest side is at most this away, the one below half of it
RADIUS = 1.5  # strides around a box's centre in which places are to find it
MOST_GROWTH = 8.0  # of the logarithm of a distance in strides: keeps exp() finite


class FCOSOptions(DetectorOptions):
    depth: int = Field(2, ge=0, le=8, description="convolutions in each head before its last")
    box_loss: Literal["giou", "ciou"] = Field("giou", description="how found boxes are compared: giou or ciou")


class FCOS(Detector):
    """Tian et al. 2019, "FCOS: Fully Convolutional One-Stage Object Detection", ICCV, with its later improvements.

    Kept: distances to four sides, levels by their reach, the smallest box where several meet, places near the centre
    alone, centreness beside the boxes, focal loss, GIoU loss weighted by centreness, score = sqrt(class x centreness).
    Deviations: as in RetinaNet, a light backbone and heads; levels of stride 8 to 64, so the reach is 64 to unbounded.
    """

    info: ClassVar[MethodInfo] = MethodInfo(
        name="fcos",
        branch="detection",
        title="FCOS",
        paper="Tian et al. 2019, FCOS: Fully Convolutional One-Stage Object Detection, ICCV",
        requires=("boxes",),
        answers=("what", "where"),
        summary="One-stage detector without anchors: nothing to tune to the defects' shapes.",
        smoke={**SMOKE, "depth": 1},
    )
    Options: ClassVar[type[DetectorOptions]] = FCOSOptions
    options: FCOSOptions

    def __init__(self, options: FCOSOptions, classes: tuple[str, ...], channels: int = 3) -> None:
        super().__init__(options, classes, channels)
        backbone = timm_backbone(options.backbone, options.weights, channels, (8, 16, 32), options.frozen_stride)
        self.features = build_features(backbone, "fpn", options.width, extra=1, image_size=options.image_size)
        levels = len(self.features.strides)
        self.head = DenseHead(options.width, options.depth, levels, 1, self.kinds, numbers=5)
        self.scales = nn.Parameter(torch.zeros(levels))  # of each level's distances, as logarithms

    def predict(self, images: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
        """Class logits (N, K, C), boxes (N, K, 4), centreness logits (N, K), points (K, 2) and strides (K,)."""
        maps = self.features(images)
        logits, numbers = self.head(maps)
        points, strides, scales = [], [], []
        for x, stride, scale in zip(maps, self.features.strides, self.scales, strict=True):
            centres = points_of(int(x.shape[2]), int(x.shape[3]), stride).to(x.device)
            points.append(centres)
            strides.append(centres.new_full((len(centres),), stride))
            scales.append(scale.expand(len(centres)))
        place, reach = torch.cat(points), torch.cat(strides)
        growth = (numbers[..., :4] + torch.cat(scales)[:, None]).clamp(max=MOST_GROWTH)
        return logits, from_distances(growth.exp() * reach[:, None], place), numbers[..., 4], place, reach

    def raw(self, images: Tensor) -> tuple[Tensor, Tensor]:
        logits, boxes, centreness, _, _ = self.predict(images)
        scores = (logits.sigmoid() * centreness.sigmoid()[..., None]).sqrt()
        return clip(boxes, int(images.shape[2]), int(images.shape[3])), scores

    def losses(self, images: Tensor, truth: list[Tensor], batch: Batch) -> Losses:
        logits, boxes, centreness, points, strides = self.predict(images)
        matched = torch.stack([find(points, strides, known[:, :4]) for known in truth])
        matched = without_ignored(matched, points, batch["valid"])
        positive = matched >= 0
        labels, wanted = targets(matched, truth)
        classes = focal(logits, one_hot(labels, self.kinds))
        central = centreness_of(to_distances(wanted[positive], points.expand(len(truth), -1, -1)[positive]))
        placed = overlap_loss(self.options.box_loss, boxes[positive], wanted[positive])
        count = positive.sum().clamp(min=1)
        return {
            "class_loss": classes[matched != IGNORED].sum() / count,
            "box_loss": (placed * central).sum() / central.sum().clamp(min=1e-6),
            "centre_loss": F.binary_cross_entropy_with_logits(centreness[positive], central, reduction="sum") / count,
        }


@torch.no_grad()
def find(points: Tensor, strides: Tensor, boxes: Tensor) -> Tensor:
    """Index (K,) of the box (M, 4) that each place is to find, else BACKGROUND: the smallest of those it may find."""
    if not len(boxes):
        return torch.full((len(points),), BACKGROUND, device=points.device)
    sides = to_distances(boxes[:, None], points[None])  # (M, K, 4)
    farthest = sides.amax(dim=2)
    least = torch.where(strides == strides.min(), 0.0, strides * REACH / 2)
    most = torch.where(strides == strides.max(), torch.inf, strides * REACH)
    centre = (boxes[:, :2] + boxes[:, 2:]) / 2
    near = (points[None] - centre[:, None]).abs().amax(dim=2) < RADIUS * strides
    possible = (sides.amin(dim=2) > 0) & near & (farthest > least) & (farthest <= most)
    area = (boxes[:, 2:] - boxes[:, :2]).prod(dim=1)[:, None].expand_as(farthest)
    smallest, found = torch.where(possible, area, torch.inf).min(dim=0)
    return torch.where(smallest.isinf(), BACKGROUND, found)


def centreness_of(distances: Tensor) -> Tensor:
    """1 at the centre of a box, 0 at its border: (P,) of distances (P, 4) to its sides."""
    across, along = distances[:, 0::2], distances[:, 1::2]
    ratios = (across.amin(dim=1) / across.amax(dim=1)) * (along.amin(dim=1) / along.amax(dim=1))
    return ratios.clamp(min=0).sqrt()
