"""Segmentation networks: an encoder by timm, a decoder by segmentation-models-pytorch, a last convolution."""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from segmentation_models_pytorch.decoders.deeplabv3.decoder import DeepLabV3PlusDecoder
from segmentation_models_pytorch.decoders.fpn.decoder import FPNDecoder
from segmentation_models_pytorch.decoders.unet.decoder import UnetDecoder
from torch import Tensor, nn

from blemish.methods.common.backbones import freeze_batchnorm, load_backbone
from blemish.methods.common.blocks import conv_block

STRIDES = (2, 4, 8, 16, 32)
STEM = 32  # channels of the map at stride 2 that is added to an encoder which begins at 4
PLAIN = "plain"  # as a backbone: no pretrained network


class Encoder(nn.Module):
    """Images in [0, 1] to the maps that segmentation-models-pytorch's decoders take: the images, then stride 2, 4, 8 …

    `channels` has one entry per map. With an `output_stride` of 16 the last stage is dilated instead of strided, and
    gives the last map. An encoder without a map at stride 2 (ConvNeXt, Swin) gets one by a convolution.
    """

    def __init__(
        self,
        name: str,
        weights: str,
        channels: int,
        strides: Sequence[int] = STRIDES,
        output_stride: int | None = None,
    ) -> None:
        super().__init__()
        if output_stride is not None:
            strides = [stride for stride in strides if stride <= output_stride]
        self.backbone = load_backbone(
            name, weights, channels, strides, output_stride=output_stride, optional_stride=STRIDES[0]
        )
        has_stem = STRIDES[0] in strides and STRIDES[0] not in self.backbone.strides
        self.stem = conv_block(channels, STEM, stride=2) if has_stem else None
        self.pretrained = weights != "random"
        self.channels = [channels, *([STEM] if has_stem else []), *self.backbone.channels]

    def train(self, mode: bool = True) -> "Encoder":
        super().train(mode)
        if self.pretrained:
            freeze_batchnorm(self.backbone)
        return self

    def forward(self, images: Tensor) -> list[Tensor]:
        maps = self.backbone(images)
        return [images, *maps] if self.stem is None else [images, self.stem(images), *maps]


class EncoderDecoder(nn.Module):
    """(N, C, H, W) in [0, 1] to logits (N, outputs, H, W); bilinear where the decoder ends below the full size."""

    def __init__(self, encoder: Encoder, decoder: nn.Module, width: int, outputs: int) -> None:
        super().__init__()
        self.encoder = encoder
        self.decoder = decoder
        self.head = nn.Conv2d(width, outputs, 3, padding=1)

    def forward(self, images: Tensor) -> Tensor:
        return self.decode(self.encoder(images))

    def decode(self, features: list[Tensor]) -> Tensor:
        """From the encoder's maps, the images first."""
        return full_size(self.head(self.decoder(features)), features[0])


class FCN8s(nn.Module):
    """Long et al. 2015: class scores of stride 32, 16 and 8, each upsampled twofold and added to the next, then by 8.

    As in the paper the scores are initialised with zero, the twofold upsampling layers are trained from bilinear ones,
    and the last upsampling is bilinear and fixed.
    """

    def __init__(self, encoder: Encoder, outputs: int) -> None:
        super().__init__()
        self.encoder = encoder
        scores = [nn.Conv2d(width, outputs, 1) for width in encoder.channels[:-4:-1]]
        for parameter in (p for score in scores for p in score.parameters()):
            nn.init.zeros_(parameter)
        self.scores = nn.ModuleList(scores)
        self.up = nn.ModuleList(bilinear_doubling(outputs) for _ in range(2))

    def forward(self, images: Tensor) -> Tensor:
        features = self.encoder(images)
        x = self.scores[0](features[-1])
        for up, score, finer in zip(self.up, self.scores[1:], features[-2:-4:-1], strict=True):
            x = up(x) + score(finer)
        return full_size(x, images)


def last_layer(network: nn.Module) -> nn.Conv2d:
    """The convolution from the features of each pixel to its logits; its input is the pixel's embedding."""
    layer = network.scores[-1] if isinstance(network, FCN8s) else getattr(network, "head", None) or network.last
    assert isinstance(layer, nn.Conv2d)
    return layer


def unet(encoder: Encoder, outputs: int, width: int = 16, half: bool = False) -> EncoderDecoder:
    """U-Net's decoder, to full or `half` the image size: `width` channels there, doubled at each coarser map."""
    widths = [width * 8, width * 4, width * 2, width, width]
    decoder = UnetDecoder(encoder.channels, widths)
    if half:
        decoder.blocks = decoder.blocks[:-1]
    return EncoderDecoder(encoder, decoder, width, outputs)


def fpn(encoder: Encoder, outputs: int, width: int = 128) -> EncoderDecoder:
    """Feature pyramid and semantic head of Kirillov et al. 2019."""
    decoder = FPNDecoder(encoder.channels, pyramid_channels=width, segmentation_channels=width // 2)
    return EncoderDecoder(encoder, decoder, width // 2, outputs)


def deeplabv3plus(encoder: Encoder, outputs: int, width: int = 128) -> EncoderDecoder:
    """Atrous pyramid on the map of stride 16, concatenated with that of stride 4."""
    decoder = DeepLabV3PlusDecoder(
        encoder.channels,
        encoder_depth=4,
        out_channels=width,
        atrous_rates=(6, 12, 18),
        output_stride=16,
        aspp_separable=True,
        aspp_dropout=0.1,
    )
    return EncoderDecoder(encoder, decoder, width, outputs)


def bilinear_doubling(channels: int) -> nn.ConvTranspose2d:
    """A transposed convolution initialised as bilinear upsampling by two, each channel separately."""
    up = nn.ConvTranspose2d(channels, channels, 4, stride=2, padding=1, bias=False)
    line = torch.tensor([0.25, 0.75, 0.75, 0.25])
    with torch.no_grad():
        up.weight.zero_()
        for channel in range(channels):
            up.weight[channel, channel] = torch.outer(line, line)
    return up


def full_size(logits: Tensor, images: Tensor) -> Tensor:
    """Bilinear to the images' size."""
    size = (images.shape[-2], images.shape[-1])
    if (logits.shape[-2], logits.shape[-1]) == size:
        return logits
    return F.interpolate(logits, size=size, mode="bilinear", align_corners=False)
