"""Encoders and decoders of the segmentation networks."""

import pytest
import torch
import torch.nn.functional as F
from segmentation_models_pytorch.decoders.deeplabv3.decoder import DeepLabV3PlusDecoder
from segmentation_models_pytorch.decoders.fpn.decoder import FPNDecoder
from segmentation_models_pytorch.decoders.unet.decoder import UnetDecoder

from blemish.errors import OptionError
from blemish.methods.segmentation.networks import Encoder, bilinear_doubling, deeplabv3plus


def test_bilinear_doubling_is_initialised_as_bilinear_upsampling():
    maps = torch.rand(2, 3, 7, 5)
    expected = F.interpolate(maps, scale_factor=2, mode="bilinear", align_corners=False)
    inner = (..., slice(2, -2), slice(2, -2))  # beyond the border the one sees zeros, the other the border
    torch.testing.assert_close(bilinear_doubling(3)(maps)[inner], expected[inner])


@pytest.mark.parametrize("name", ["test_resnet", "test_convnext"])
def test_encoders_give_a_map_at_every_stride(name):
    encoder = Encoder(name, "random", 1)
    maps = encoder(torch.rand(1, 1, 64, 64))
    assert [m.shape[-1] for m in maps] == [64, 32, 16, 8, 4, 2]
    assert [m.shape[1] for m in maps] == encoder.channels


def test_encoder_without_a_pyramid_is_refused():
    with pytest.raises(OptionError, match="stride"):
        Encoder("vit_tiny_patch16_224", "random", 3)


def test_dilated_encoder_ends_at_stride_16():
    encoder = Encoder("test_resnet", "random", 3, output_stride=16)
    assert encoder(torch.rand(1, 3, 64, 64))[-1].shape[-1] == 4
    assert deeplabv3plus(encoder, 2, 16)(torch.rand(2, 3, 64, 64)).shape == (2, 2, 64, 64)


def test_decoders_of_segmentation_models_pytorch_are_as_we_use_them():
    """They are not part of its public interface: this fails first where a new version changes them."""
    maps = [torch.rand(2, channels, 64 // 2**i, 64 // 2**i) for i, channels in enumerate((3, 8, 8, 16, 16, 32))]
    channels = [int(one.shape[1]) for one in maps]
    decoder = UnetDecoder(channels, [32, 16, 8, 4, 4])
    assert decoder(maps).shape == (2, 4, 64, 64)
    decoder.blocks = decoder.blocks[:-1]
    assert decoder(maps).shape == (2, 4, 32, 32)
    decoder = FPNDecoder(channels, pyramid_channels=64, segmentation_channels=32)
    assert decoder(maps).shape == (2, 32, 16, 16)
    decoder = DeepLabV3PlusDecoder(channels[:5], 4, 16, (6, 12, 18), 16, True, 0.1)
    assert decoder(maps[:5]).shape == (2, 16, 16, 16)
