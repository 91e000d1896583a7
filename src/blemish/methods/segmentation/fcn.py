"""FCN: a classifier made fully convolutional; its scores at three strides add up to a map."""

from typing import ClassVar

from torch import nn

from blemish.methods.base import MethodInfo
from blemish.methods.segmentation.networks import Encoder, FCN8s
from blemish.methods.segmentation.segmenter import SMOKE, Segmenter, SegmenterOptions


class FCN(Segmenter):
    """Long et al. 2015, "Fully Convolutional Networks for Semantic Segmentation", CVPR.

    Kept: the form FCN-8s: class scores from the maps of stride 32, 16 and 8, begun at zero, each enlarged twofold by a
    transposed convolution that begins as bilinear, added to the next, and enlarged by 8. Deviations: any encoder,
    instead of VGG with its dense layers made convolutional; the three strides learn together, not one after another;
    AdamW for SGD; Dice is added to the cross-entropy.
    """

    info: ClassVar[MethodInfo] = MethodInfo(
        name="fcn",
        branch="segmentation",
        title="FCN-8s",
        paper="Long et al. 2015, Fully Convolutional Networks for Semantic Segmentation, CVPR",
        requires=("mask",),
        answers=("what", "where", "how much"),
        summary="Scores of three strides added up; the lightest, but coarse at borders and on thin defects.",
        smoke={**SMOKE, "steps": 30},
    )
    Options: ClassVar[type[SegmenterOptions]] = SegmenterOptions
    options: SegmenterOptions

    def build(self) -> nn.Module:
        return FCN8s(Encoder(self.options.backbone, self.options.weights, self.channels, (8, 16, 32)), self.layers)
