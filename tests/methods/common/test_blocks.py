"""Shared pieces of graph: filters, patch grids, encoders, U-Net."""

import io

import numpy as np
import onnxruntime
import pytest
import torch
from scipy.ndimage import uniform_filter

from blemish.methods.common.blocks import PatchGrid, PlainUNet, dcgan_decoder, dcgan_encoder, image_mean, mean_filter


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
