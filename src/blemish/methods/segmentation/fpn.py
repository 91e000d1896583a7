"""FPN: a feature pyramid of constant width, whose levels are summed to a map."""

from typing import ClassVar

from pydantic import Field
from torch import nn

from blemish.methods.base import MethodInfo
from blemish.methods.segmentation.networks import Encoder, fpn
from blemish.methods.segmentation.segmenter import SMOKE, Segmenter, SegmenterOptions


class FPNOptions(SegmenterOptions):
    width: int = Field(128, ge=64, multiple_of=64, description="channels of the pyramid; paper: 256")


class FPN(Segmenter):
    """Kirillov et al. 2019, "Panoptic Feature Pyramid Networks", CVPR, on the pyramid of Lin et al. 2017, CVPR.

    Kept: the semantic branch: every level of the pyramid upsampled by convolutions to stride 4, summed, and classified.
    Deviations: any encoder; half the width; AdamW instead of SGD; Dice is added to the cross-entropy.
    """

    info: ClassVar[MethodInfo] = MethodInfo(
        name="fpn",
        branch="segmentation",
        title="FPN",
        paper="Kirillov et al. 2019, Panoptic Feature Pyramid Networks, CVPR",
        requires=("mask",),
        answers=("what", "where", "how much"),
        summary="A feature pyramid with a light head; good where defects come in very different sizes.",
        smoke={**SMOKE, "steps": 15, "width": 64},
    )
    Options: ClassVar[type[SegmenterOptions]] = FPNOptions
    options: FPNOptions

    def build(self) -> nn.Module:
        return fpn(Encoder(self.options.backbone, self.options.weights, self.channels), self.layers, self.options.width)
