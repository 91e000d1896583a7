"""Every restoration method: its corruption, and the sides it takes."""

import numpy as np
import pytest
import torch
from scipy.ndimage import gaussian_filter
from torch import nn

from blemish.errors import OptionError
from blemish.methods.common.corruption import coarse_noise
from blemish.methods.common.textures import confetti

SIZE = 64


@pytest.mark.parametrize("kind", ["coarse noise", "confetti", "draem"])
def test_corruption_of_a_grey_image_is_grey(kind, make_method):
    corrupt = {
        "coarse noise": lambda images: coarse_noise(images, 8, 0.2),
        "confetti": lambda images: confetti(images)[0],
        "draem": lambda images: make_method("draem").corrupt(images)[0],
    }[kind]
    torch.manual_seed(1)
    grey, coloured = torch.rand(6, 1, SIZE, SIZE).expand(-1, 3, -1, -1), torch.rand(6, 3, SIZE, SIZE)
    images = torch.cat([grey, coloured])
    corrupted = corrupt(images)
    assert not torch.equal(corrupted[:6], grey)
    assert torch.equal(corrupted[:6].amax(dim=1), corrupted[:6].amin(dim=1))
    changed = (corrupted[6:] - coloured).abs()
    assert float((changed.amax(dim=1) - changed.amin(dim=1)).max()) > 0.05  # a colour of its own elsewhere


def test_blur_equals_scipy(make_method):
    method = make_method("deblurring", sigma=3.0)
    method.network = nn.Identity()
    images = torch.rand(2, 3, SIZE, SIZE)
    expected = gaussian_filter(images.numpy(), (0, 0, 3, 3), mode="mirror", truncate=4)
    np.testing.assert_allclose(method.restore(images).numpy(), expected, atol=1e-5)


@pytest.mark.parametrize("name", ["denoising-autoencoder", "deblurring", "inpainting", "draem"])
def test_sides_that_do_not_fit_the_network_are_refused(name, make_method):
    with pytest.raises(OptionError, match="multiple of 16"):
        make_method(name, image_size=100)
