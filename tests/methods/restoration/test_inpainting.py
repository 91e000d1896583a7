"""Inpainting: masks and hidden pixels."""

import torch
from torch import nn

SIZE = 64


def test_masked_pixels_are_hidden_from_the_network(make_method):
    method = make_method("inpainting")
    images = 0.1 + 0.9 * torch.rand(2, 3, SIZE, SIZE)
    masks = method.random_masks(8)
    method.network = nn.Identity()  # gives back what it is shown: nothing where it must draw
    assert not method.inpaint(images, masks).any()

    class Negative(nn.Module):
        def forward(self, x):
            return 1 - x  # one where nothing is shown

    method.network = Negative()
    torch.testing.assert_close(method.inpaint(images, masks), torch.ones_like(images))


def test_inpainting_keeps_its_masks_with_its_weights(make_method):
    first, second = make_method("inpainting"), make_method("inpainting")
    second.masks_8.copy_(second.masks_8.roll(8, dims=2))
    images = torch.rand(1, 3, SIZE, SIZE)
    assert not torch.equal(first(images)["anomaly_map"], second(images)["anomaly_map"])
    second.load_state_dict(first.state_dict())
    assert torch.equal(first(images)["anomaly_map"], second(images)["anomaly_map"])
