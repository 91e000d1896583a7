"""U-Net: an encoder and a decoder with a skip connection at every size."""

from typing import ClassVar

from pydantic import Field
from torch import nn

from blemish.methods.base import MethodInfo, ignored_when
from blemish.methods.common.backbones import DEFAULT_BACKBONE, reject_pretrained_options
from blemish.methods.common.blocks import PlainUNet
from blemish.methods.segmentation.networks import PLAIN, Encoder, unet
from blemish.methods.segmentation.segmenter import SMOKE, Segmenter, SegmenterOptions


class UNetOptions(SegmenterOptions):
    backbone: str = Field(
        DEFAULT_BACKBONE, description="timm name of the encoder; plain: the paper's own, from scratch"
    )
    width: int = Field(16, ge=1, description="channels at the finest size, doubled at each coarser one")
    full_size: bool = Field(
        False,
        description="decode to the full image size, for which the encoder has no map, instead of half of it",
        json_schema_extra=ignored_when("backbone", PLAIN),
    )
    steps: int = Field(2000, ge=1, description="training steps")


class UNet(Segmenter):
    """Ronneberger et al. 2015, "U-Net: Convolutional Networks for Biomedical Image Segmentation", MICCAI.

    Kept: decoder of two convolutions per size, with the encoder's map of the same size; pixel-wise cross-entropy whose
    weights balance the classes. Deviations: a pretrained encoder, padded convolutions and BatchNorm; the map is decoded
    to half the image size, that of the encoder's finest map, and upsampled from there (`full_size`); Dice is added to
    the loss; classes are balanced in each batch, and only half-way (`pixel_balance`; paper: 1), without extra weight
    between touching cells. `backbone=plain` is the paper's own network, trained from scratch, of width `width` (paper:
    64).
    """

    info: ClassVar[MethodInfo] = MethodInfo(
        name="unet",
        branch="segmentation",
        title="U-Net",
        paper="Ronneberger et al. 2015, U-Net: Convolutional Networks for Biomedical Image Segmentation, MICCAI",
        requires=("mask",),
        answers=("what", "where", "how much"),
        summary="Encoder and decoder with a skip at every size, for defects that are labelled by pixel.",
        smoke={**SMOKE, "steps": 40, "width": 8},
    )
    Options: ClassVar[type[SegmenterOptions]] = UNetOptions
    options: UNetOptions

    def build(self) -> nn.Module:
        options = self.options
        if options.backbone == PLAIN:
            reject_pretrained_options(options, {"weights": "random"})
            return PlainUNet(self.channels, self.layers, options.width)
        encoder = Encoder(options.backbone, options.weights, self.channels)
        return unet(encoder, self.layers, options.width, half=not options.full_size)
