"""FCOS: every location inside a defect predicts its distances to the defect's four sides; no anchors."""

import logging
from collections.abc import Iterable
from typing import ClassVar

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor, nn
from torchvision.ops import sigmoid_focal_loss

from blemish.methods.base import Batch, MethodInfo
from blemish.methods.detection.boxes import boxes_to_distances, distances_to_boxes, level_locations
from blemish.methods.detection.dense import DenseDetector, DensePredictions
from blemish.methods.detection.detector import SMOKE, DetectorOptions, Losses, drop_invalid_boxes
from blemish.methods.detection.heads import DenseHead
from blemish.methods.detection.losses import IoULoss, iou_loss, one_hot
from blemish.methods.detection.matching import BACKGROUND, IGNORED
from blemish.methods.detection.pyramid import build_features

log = logging.getLogger(__name__)
REACH = 8.0  # strides: a level is assigned boxes whose farthest side is at most this away, the level below half of it
RADIUS = 1.5  # strides around a box's centre within which locations are assigned to it
MAX_LOG_DISTANCE = 8.0  # logarithm of a distance in strides: keeps exp() finite


class FCOSOptions(DetectorOptions):
    depth: int = Field(2, ge=0, le=8, description="convolutions in each head before its last")
    box_loss: IoULoss = Field("giou", description="how predicted boxes are compared: giou or ciou")


class FCOS(DenseDetector):
    """Tian et al. 2019, "FCOS: Fully Convolutional One-Stage Object Detection", ICCV, with its later improvements.

    Kept: distances to four sides, levels by their reach, the smallest box where several meet, only locations near the
    centre, a centreness output, focal loss, GIoU loss weighted by centreness, score = sqrt(class x centreness).
    Deviations: as in RetinaNet, a light backbone and heads; levels of stride 8 to 64, so the reach is 64 to unbounded.
    As in the paper, a defect without a location inside it, of a grid of 8 px of the network's input, is background in
    training: more than half of those of 3 x 60 or 5 x 5 px. A training says how many; for such, take `yolo`, anchors or
    a larger `image_size`.
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
        self.features = build_features(options, channels, "fpn", extra=1)
        levels = len(self.features.strides)
        self.head = DenseHead(options.width, options.depth, levels, 1, self.num_classes, outputs=5)
        self.scales = nn.Parameter(torch.zeros(levels))  # logarithm of a factor on each level's distances

    def predict_dense(self, images: Tensor) -> DensePredictions:
        maps = self.features(images)
        logits, outputs = self.head(maps)
        locations, strides = level_locations(maps, self.features.strides)
        scales = [scale.expand(x.shape[2] * x.shape[3]) for x, scale in zip(maps, self.scales, strict=True)]
        log_distances = (outputs[..., :4] + torch.cat(scales)[:, None]).clamp(max=MAX_LOG_DISTANCE)
        boxes = distances_to_boxes(log_distances.exp() * strides[:, None], locations)
        return DensePredictions(logits, boxes, locations, strides, outputs[..., 4])

    def predict(self, images: Tensor) -> tuple[Tensor, Tensor]:
        predictions = self.predict_dense(images)
        return predictions.boxes, (predictions.logits.sigmoid() * predictions.centreness.sigmoid()[..., None]).sqrt()

    def assign(self, predictions: DensePredictions, image: int, targets: Tensor) -> Tensor:
        return assign_smallest(predictions.locations, predictions.references, targets[:, :4])

    @torch.no_grad()
    def finish_training(self, batches: Iterable[Batch], count: int) -> None:
        """Say how many boxes of the training images, as the network sees them, no location is assigned to."""
        self.eval()
        boxes, assigned = 0, 0
        locations: tuple[Tensor, Tensor] | None = None  # of all images: they have one size
        for batch in map(drop_invalid_boxes, batches):
            locations = locations or level_locations(self.features(batch["image"][:1]), self.features.strides)
            for targets in batch["boxes"]:
                matches = assign_smallest(*locations, targets[:, :4])
                boxes, assigned = boxes + len(targets), assigned + len(matches[matches >= 0].unique())
        if assigned < boxes:
            log.warning(
                f"{boxes - assigned} of {boxes} boxes of the training images have no location of fcos inside them and "
                "count as background: too thin or small at this size; take yolo, anchors or a larger image_size"
            )

    def assigned_losses(self, predictions: DensePredictions, matches: Tensor, labels: Tensor, boxes: Tensor) -> Losses:
        positive = matches >= 0
        count = positive.sum().clamp(min=1)
        locations = predictions.locations.expand(len(matches), -1, -1)[positive]
        centreness = compute_centreness(boxes_to_distances(boxes[positive], locations))
        class_loss = sigmoid_focal_loss(predictions.logits, one_hot(labels, self.num_classes), reduction="none")
        box_loss = iou_loss(self.options.box_loss, predictions.boxes[positive], boxes[positive])
        centre_loss = F.binary_cross_entropy_with_logits(predictions.centreness[positive], centreness, reduction="sum")
        return {
            "class_loss": class_loss[matches != IGNORED].sum() / count,
            "box_loss": (box_loss * centreness).sum() / centreness.sum().clamp(min=1e-6),
            "centre_loss": centre_loss / count,
        }


@torch.no_grad()
def assign_smallest(locations: Tensor, strides: Tensor, boxes: Tensor) -> Tensor:
    """Index (K,) of the box (M, 4) assigned to each location, else BACKGROUND: the smallest of those within reach."""
    if not len(boxes):
        return torch.full((len(locations),), BACKGROUND, device=locations.device)
    distances = boxes_to_distances(boxes[:, None], locations[None])  # (M, K, 4)
    farthest = distances.amax(dim=2)
    lower = torch.where(strides == strides.min(), 0.0, strides * REACH / 2)
    upper = torch.where(strides == strides.max(), torch.inf, strides * REACH)
    centre = (boxes[:, :2] + boxes[:, 2:]) / 2
    central = (locations[None] - centre[:, None]).abs().amax(dim=2) < RADIUS * strides
    possible = (distances.amin(dim=2) > 0) & central & (farthest > lower) & (farthest <= upper)
    area = (boxes[:, 2:] - boxes[:, :2]).prod(dim=1)[:, None].expand_as(farthest)
    smallest, index = torch.where(possible, area, torch.inf).min(dim=0)
    return torch.where(smallest.isinf(), BACKGROUND, index)


def compute_centreness(distances: Tensor) -> Tensor:
    """1 at the centre of a box, 0 at its border: (P,) of distances (P, 4) to its sides."""
    across, along = distances[:, 0::2], distances[:, 1::2]
    ratios = (across.amin(dim=1) / across.amax(dim=1)) * (along.amin(dim=1) / along.amax(dim=1))
    return ratios.clamp(min=0).sqrt()
