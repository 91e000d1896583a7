"""FCN: a fully convolutional classifier whose scores at three strides are summed to a map."""

from typing import ClassVar

from torch import nn

from blemish.methods.base import MethodInfo
from blemish.methods.segmentation.networks import Encoder, FCN8s
from blemish.methods.segmentation.segmenter import SMOKE, Segmenter, SegmenterOptions


class FCN(Segmenter):
    """Long et al. 2015, "Fully Convolutional Networks for Semantic Segmentation", CVPR.

    Kept: the form FCN-8s: class scores from the maps of stride 32, 16 and 8, initialised with zero, each upsampled
    twofold by a transposed convolution initialised as bilinear, added to the next, and upsampled by 8. Deviations: any
    encoder, instead of VGG with convolutional dense layers; the three strides are trained together, not one after
    another; AdamW instead of SGD; Dice is added to the cross-entropy.
    """

    info: ClassVar[MethodInfo] = MethodInfo(
        name="fcn",
        branch="segmentation",
        title="FCN-8s",
        paper="Long et al. 2015, Fully Convolutional Networks for Semantic Segmentation, CVPR",
        requires=("mask",),
        answers=("what", "where", "how much"),
        summary="Sum of the scores at three strides; the lightest, but coarse at borders and on thin defects.",
        smoke={**SMOKE, "steps": 30},
    )
    Options: ClassVar[type[SegmenterOptions]] = SegmenterOptions
    options: SegmenterOptions

    def build(self) -> nn.Module:
        return FCN8s(Encoder(self.options.backbone, self.options.weights, self.channels, (8, 16, 32)), self.layers)
