"""The networks of EfficientAD against the paper's sizes."""

import pytest
import torch

from blemish.methods.feature_distance.pdn import RECEPTIVE_FIELD, autoencoder, pdn, pdn_size


@pytest.mark.parametrize("size", ["s", "m"])
def test_pdn_depends_only_on_its_receptive_field(size):
    torch.manual_seed(0)
    network = pdn(size, 3, 8, width=0.1)
    image = torch.rand(1, 3, 64, 64, requires_grad=True)
    output = network(image)
    assert output.shape[-1] == pdn_size(64)
    output[0, :, 3, 4].abs().sum().backward()
    touched = (image.grad[0].abs().sum(dim=0) > 0).nonzero()
    (top, left), (bottom, right) = touched.amin(dim=0).tolist(), touched.amax(dim=0).tolist()
    assert (top, left) == (4 * 3, 4 * 4)  # a place each 4 px, no padding
    assert bottom - top + 1 == right - left + 1 == RECEPTIVE_FIELD


def test_pdn_and_autoencoder_have_the_papers_sizes():
    assert pdn_size(256) == 56
    small = pdn("s", 3, 384)
    assert [m.out_channels for m in small if isinstance(m, torch.nn.Conv2d)] == [128, 256, 256, 384]
    medium = pdn("m", 3, 384)
    assert [m.out_channels for m in medium if isinstance(m, torch.nn.Conv2d)] == [256, 512, 512, 512, 384, 384]
    network = autoencoder(3, 384, 256)
    with torch.inference_mode():
        image = torch.rand(1, 3, 256, 256)
        for name, module in network.named_children():
            image = module(image)
            if name == "bottleneck":
                assert image.shape == (1, 64, 1, 1)
    assert image.shape == (1, 384, 56, 56)
