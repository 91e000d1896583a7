"""Shared pieces of graph: filters, patch grids, encoders, U-Net."""

import io

import numpy as np
import onnxruntime
import pytest
import torch
from scipy.ndimage import uniform_filter

from blemish.methods.common.blocks import (
    DoublingConv,
    PatchGrid,
    PlainUNet,
    dcgan_decoder,
    dcgan_encoder,
    halving_conv,
    image_mean,
    mean_filter,
)


@pytest.mark.parametrize(("size", "side"), [(64, 0), (64, 64), (64, 32), (100, 32), (70, 64)])
def test_split_patches_join_to_the_image(size, side):
    patches = PatchGrid(size, side)
    images = torch.rand(3, 1, size, size)
    parts = patches.split(images)
    assert parts.shape == (3 * len(patches.corners), 1, patches.side, patches.side)
    torch.testing.assert_close(patches.join(parts[:, 0]), images[:, 0])


def test_random_patches_of_image_and_mask_coincide():
    images = torch.rand(6, 3, 40, 40)
    cut, marks = PatchGrid(40, 16).random(images, images[:, 0] > 0.5)
    assert cut.shape == (6, 3, 16, 16)
    assert torch.equal(cut[:, 0] > 0.5, marks)
    assert len({float(c[0, 0, 0]) for c in cut}) == 6


@pytest.mark.parametrize("size", [16, 64, 128])
def test_decoder_mirrors_encoder(size):
    images = torch.rand(2, 3, size, size)
    code = dcgan_encoder(3, size, 4, 10)(images)
    assert code.shape == (2, 10, 1, 1)
    reconstructed = dcgan_decoder(10, 3, size, 4)(code)
    assert reconstructed.shape == images.shape
    assert reconstructed.min() >= 0
    assert reconstructed.max() <= 1


def plain(size: int = 32) -> torch.Tensor:
    """An image of one colour."""
    return torch.tensor([0.2, 0.7, 0.4]).view(1, 3, 1, 1).expand(1, 3, size, size)


@torch.no_grad()
def test_mirrored_networks_see_no_border_in_a_plain_image():
    torch.manual_seed(0)
    mirrored, zeros = (PlainUNet(3, 3, 4, 2, padding=mode).eval() for mode in ("reflect", "zeros"))
    period = 4  # transposed convolutions differ within a cell of the coarsest map, and are the same in each cell
    for network, same in ((mirrored, True), (zeros, False)):
        cells = network(plain()).unfold(2, period, period).unfold(3, period, period)
        assert torch.allclose(cells, cells[:, :, 3:4, 3:4], atol=1e-6) is same
    *encoder, _ = dcgan_encoder(3, 32, 4, 10).eval()
    x = plain()
    for layer in encoder:
        x = layer(x)
        assert torch.allclose(x, x[:, :, :1, :1], atol=1e-6)


@torch.no_grad()
def test_halving_and_doubling_equal_convolutions_of_the_mirrored_image():
    torch.manual_seed(0)
    image = torch.rand(2, 3, 8, 12)
    mirrored = torch.nn.functional.pad(image, (3, 3, 3, 3), mode="reflect")
    half, double = halving_conv(3, 5), DoublingConv(3, 5)
    wide = torch.nn.functional.conv2d(mirrored, half.weight, half.bias, 2)  # starts 3 px before the image
    torch.testing.assert_close(half(image), wide[:, :, 1:-1, 1:-1])
    wide = torch.nn.functional.conv_transpose2d(mirrored, double.weight, double.bias, 2, 1)
    torch.testing.assert_close(double(image), wide[:, :, 6:-6, 6:-6])
    assert double(image).shape == (2, 5, 16, 24)


@pytest.mark.parametrize("side", [1, 5, 21])
def test_mean_filter_equals_scipy(side):
    maps = torch.rand(2, 30, 40)
    expected = uniform_filter(maps.numpy(), (0, side, side), mode="nearest")
    np.testing.assert_allclose(mean_filter(maps, side).numpy(), expected, atol=1e-5)


@pytest.mark.parametrize("skips", [True, False])
def test_unet_joins_skips_only_if_asked(skips):
    torch.manual_seed(0)
    network = PlainUNet(1, 1, 4, 3, skips=skips).eval()
    seen = []
    network.joined[0].register_forward_hook(lambda module, inputs, output: seen.append(inputs[0].shape[1]))
    assert network(torch.rand(2, 1, 32, 24)).shape == (2, 1, 32, 24)
    assert seen == [8 if skips else 4]


class Mean(torch.nn.Module):
    def forward(self, images):
        return {"anomaly_score": image_mean(images).flatten()}


def test_image_mean_is_as_precise_in_the_graph():
    torch.manual_seed(0)
    images = 0.7 + 0.1 * torch.rand(2, 3, 256, 256)
    np.testing.assert_allclose(image_mean(images).flatten(), images.double().mean(dim=(1, 2, 3)), rtol=1e-6)
    buffer = io.BytesIO()
    torch.onnx.export(Mean(), (images,), buffer, dynamo=False, opset_version=17, input_names=["images"])
    result = onnxruntime.InferenceSession(buffer.getvalue()).run(None, {"images": images.numpy()})[0]
    np.testing.assert_allclose(result, images.double().mean(dim=(1, 2, 3)), rtol=2e-6)
