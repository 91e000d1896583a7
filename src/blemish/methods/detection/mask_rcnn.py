"""Mask R-CNN: Faster R-CNN with a mask of each detected defect."""

from typing import ClassVar

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor, nn
from torchvision.models.detection.mask_rcnn import MaskRCNNPredictor
from torchvision.ops import roi_align

from blemish.methods.base import Batch, MethodInfo
from blemish.methods.detection.anchors import AnchorSizes
from blemish.methods.detection.detector import SMOKE_REGIONS, DetectorOptions, Losses
from blemish.methods.detection.faster_rcnn import FasterRCNN, FasterRCNNOptions, SampledProposals
from blemish.methods.detection.pyramid import conv
from blemish.methods.detection.roi import RegionPool, with_image_index
from blemish.methods.detection.suppression import suppress

MASK_ROI_SIDE = 14  # of the grid of features that the mask head sees; masks have twice that side


class MaskRCNNOptions(FasterRCNNOptions):
    scales: AnchorSizes = Field((1.5, 3.0, 4.5), description="anchor sides in a pyramid, in strides of their level")
    depth: int = Field(2, ge=1, le=8, description="convolutions of the mask head")
    max_boxes: int = Field(30, ge=1, le=1000, description="largest number of defects of an image, each with a mask")


class MaskRCNN(FasterRCNN):
    """He et al. 2017, "Mask R-CNN", ICCV.

    Kept: the stages of Faster R-CNN, RoIAlign, a mask of 28 x 28 for each class, trained by a sigmoid on the true
    class's mask only, within the proposals that match a defect. Deviations: as in Faster R-CNN, with further,
    smaller anchors, and a mask head of two convolutions instead of four, which with `cascade` is trained on the first
    stage's proposals. Defects of fewer than 4 px of the network's input are not trained on.
    """

    info: ClassVar[MethodInfo] = MethodInfo(
        name="mask-rcnn",
        branch="detection",
        title="Mask R-CNN",
        paper="He et al. 2017, Mask R-CNN, ICCV",
        requires=("boxes", "mask"),
        answers=("what", "where", "how much"),
        summary="Two-stage detector with a mask of each defect: separates touching defects and measures them.",
        smoke={**SMOKE_REGIONS, "max_boxes": 10, "min_score": 1e-3, "learning_rate": 4e-3},
        never_advised="the slowest detector; only for touching defects that must be counted and measured one by one",
    )
    Options: ClassVar[type[DetectorOptions]] = MaskRCNNOptions
    options: MaskRCNNOptions

    def __init__(self, options: MaskRCNNOptions, classes: tuple[str, ...], channels: int = 3) -> None:
        super().__init__(options, classes, channels)
        self.mask_pool = RegionPool("align", MASK_ROI_SIDE, self.pool.strides)
        self.mask_head = nn.Sequential(
            *(conv(options.width, options.width, act=nn.ReLU) for _ in range(options.depth)),
            MaskRCNNPredictor(options.width, options.width, self.num_classes),
        )

    def forward(self, images: Tensor) -> dict[str, Tensor]:
        maps = self.features(images)
        detections = suppress(*self.predict_from_maps(maps, images), self.suppression)
        logits = self.mask_head(self.mask_pool(maps, detections["boxes"]))  # (N * M, C, 28, 28)
        index = detections["box_labels"].flatten()[:, None, None, None].expand(-1, 1, *logits.shape[2:])
        masks = logits.gather(1, index).sigmoid().view(-1, detections["boxes"].shape[1], *logits.shape[2:])
        return {**detections, "box_masks": masks * (detections["box_scores"] > 0)[..., None, None]}

    def compute_losses(self, batch: Batch) -> Losses:
        maps = self.features(batch["image"])
        losses, sampled = self.losses_from_maps(maps, batch)
        return losses | {"mask_loss": self.mask_loss(maps, sampled, batch["box_masks"])}

    def mask_loss(self, maps: list[Tensor], sampled: SampledProposals, masks: list[Tensor]) -> Tensor:
        """Cross-entropy of the true class's mask over the proposals that match a defect; other proposals have none."""
        positive = sampled.matches >= 0
        if not positive.any():
            return torch.stack([weights.sum() for weights in self.mask_head.parameters()]).sum() * 0.0
        boxes = with_image_index(sampled.boxes)[positive.flatten()]
        logits = self.mask_head(self.mask_pool.pool(maps, boxes))
        own = logits[torch.arange(len(logits), device=logits.device), sampled.labels[positive]]
        side = int(own.shape[-1])
        start = torch.tensor([0, *(len(m) for m in masks)], device=boxes.device).cumsum(0)[:-1]
        mask_index = (start[:, None] + sampled.matches)[positive]
        boxes = torch.cat([mask_index[:, None], boxes[:, 1:]], dim=1)
        every = torch.cat(masks)[:, None].float()
        targets = roi_align(every, boxes, (side, side), 1.0, -1, aligned=True)[:, 0] >= 0.5
        return F.binary_cross_entropy_with_logits(own, targets.float())
