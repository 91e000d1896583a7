"""Mask R-CNN: Faster R-CNN that also draws each defect it finds."""

from typing import ClassVar

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor, nn
from torchvision.models.detection.mask_rcnn import MaskRCNNPredictor
from torchvision.ops import roi_align

from blemish.methods.base import Batch, MethodInfo
from blemish.methods.detection.anchors import Sizes
from blemish.methods.detection.detector import SMOKE_REGIONS, DetectorOptions, Losses
from blemish.methods.detection.faster_rcnn import FasterRCNN, FasterRCNNOptions, Regions
from blemish.methods.detection.pyramid import conv
from blemish.methods.detection.roi import RegionPool, with_image
from blemish.methods.detection.suppression import detections

SIDE = 14  # of the grid of features that the mask head sees; masks have twice that


class MaskRCNNOptions(FasterRCNNOptions):
    scales: Sizes = Field((1.5, 3.0, 4.5), description="anchor sides in a pyramid, in strides of their level")
    depth: int = Field(2, ge=1, le=8, description="convolutions of the mask head")
    max_boxes: int = Field(30, ge=1, le=1000, description="most defects that are given of an image, each with a mask")


class MaskRCNN(FasterRCNN):
    """He et al. 2017, "Mask R-CNN", ICCV.

    Kept: the stages of Faster R-CNN, RoIAlign, a mask of 28 x 28 for each class, learnt by a sigmoid on the true
    class's mask alone, within the regions that match a defect. Deviations: as in Faster R-CNN, with smaller anchors
    beside its own, and a mask head of two convolutions instead of four, which with `cascade` learns from the first
    stage's regions. Defects of fewer than 4 px of the network are
    not learnt.
    """

    info: ClassVar[MethodInfo] = MethodInfo(
        name="mask-rcnn",
        branch="detection",
        title="Mask R-CNN",
        paper="He et al. 2017, Mask R-CNN, ICCV",
        requires=("boxes", "mask"),
        answers=("what", "where", "how much"),
        summary="Two-stage detector that also draws each defect, and so tells touching ones apart and measures them.",
        smoke={**SMOKE_REGIONS, "max_boxes": 10, "min_score": 1e-3, "learning_rate": 4e-3},
        never_advised="the slowest detector; only for touching defects that must be counted and measured one by one",
    )
    Options: ClassVar[type[DetectorOptions]] = MaskRCNNOptions
    options: MaskRCNNOptions

    def __init__(self, options: MaskRCNNOptions, classes: tuple[str, ...], channels: int = 3) -> None:
        super().__init__(options, classes, channels)
        self.mask_pool = RegionPool("align", SIDE, self.pool.strides)
        self.mask_head = nn.Sequential(
            *(conv(options.width, options.width, act=nn.ReLU) for _ in range(options.depth)),
            MaskRCNNPredictor(options.width, options.width, self.kinds),
        )

    def forward(self, images: Tensor) -> dict[str, Tensor]:
        maps = self.features(images)
        found = detections(*self.raw_from(maps, images), self.suppression)
        logits = self.mask_head(self.mask_pool(maps, found["boxes"]))  # (N * M, C, 28, 28)
        index = found["box_labels"].flatten()[:, None, None, None].expand(-1, 1, *logits.shape[2:])
        masks = logits.gather(1, index).sigmoid().view(-1, found["boxes"].shape[1], *logits.shape[2:])
        return {**found, "box_masks": masks * (found["box_scores"] > 0)[..., None, None]}

    def losses(self, images: Tensor, truth: list[Tensor], batch: Batch) -> Losses:
        maps = self.features(images)
        found, regions = self.losses_from(maps, images, truth, batch["valid"])
        return found | {"mask_loss": self.mask_loss(maps, regions, batch["box_masks"])}

    def mask_loss(self, maps: list[Tensor], regions: Regions, masks: list[Tensor]) -> Tensor:
        """Cross-entropy of the true class's mask over the regions that match a defect; no other region is looked at."""
        positive = regions.found >= 0
        if not positive.any():
            return torch.stack([weights.sum() for weights in self.mask_head.parameters()]).sum() * 0.0
        cut = with_image(regions.boxes)[positive.flatten()]
        logits = self.mask_head(self.mask_pool.pool(maps, cut))
        own = logits[torch.arange(len(logits), device=logits.device), regions.labels[positive]]
        side = int(own.shape[-1])
        start = torch.tensor([0, *(len(m) for m in masks)], device=cut.device).cumsum(0)[:-1]
        which = (start[:, None] + regions.found)[positive]  # the mask of the very defect
        cut = torch.cat([which[:, None], cut[:, 1:]], dim=1)
        every = torch.cat(masks)[:, None].float()
        wanted = roi_align(every, cut, (side, side), 1.0, -1, aligned=True)[:, 0] >= 0.5
        return F.binary_cross_entropy_with_logits(own, wanted.float())
