"""DeepLabV3+: atrous convolutions of several rates on a coarse map, refined with a finer one."""

from typing import ClassVar

from pydantic import Field
from torch import nn

from blemish.methods.base import MethodInfo
from blemish.methods.segmentation.networks import Encoder, deeplabv3plus
from blemish.methods.segmentation.segmenter import SMOKE, Segmenter, SegmenterOptions


class DeepLabV3PlusOptions(SegmenterOptions):
    width: int = Field(128, ge=4, description="channels of the pyramid and the decoder; paper: 256")


class DeepLabV3Plus(Segmenter):
    """Chen et al. 2018, "Encoder-Decoder with Atrous Separable Convolution for Semantic Image Segmentation", ECCV.

    Kept: encoder of stride 16 with its last stage dilated, pyramid of separable convolutions with rates 6, 12 and 18
    and image pooling, concatenated with 48 channels of stride 4. Deviations: any encoder that timm can dilate; half the
    width; one convolution after the concatenation; AdamW instead of SGD; Dice is added to the cross-entropy.
    """

    info: ClassVar[MethodInfo] = MethodInfo(
        name="deeplabv3plus",
        branch="segmentation",
        title="DeepLabV3+",
        paper="Chen et al. 2018, Encoder-Decoder with Atrous Separable Convolution for Semantic Segmentation, ECCV",
        requires=("mask",),
        answers=("what", "where", "how much"),
        summary="A large field of view around each pixel; good for large, faint defects that need context.",
        smoke={**SMOKE, "steps": 15, "width": 16},
    )
    Options: ClassVar[type[SegmenterOptions]] = DeepLabV3PlusOptions
    options: DeepLabV3PlusOptions

    def build(self) -> nn.Module:
        encoder = Encoder(self.options.backbone, self.options.weights, self.channels, output_stride=16)
        return deeplabv3plus(encoder, self.layers, self.options.width)
