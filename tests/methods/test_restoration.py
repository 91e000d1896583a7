"""What is peculiar to methods that spoil good images and learn to restore them."""

from math import comb

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.ndimage import gaussian_filter, uniform_filter
from torch import nn

from blemish.errors import DataError, OptionError
from blemish.methods.catalogue import method_class
from blemish.methods.common.blocks import PlainUNet, mean_filter
from blemish.methods.common.textures import confetti
from blemish.synthesis.corruption import coarse_noise, disjoint_masks

SIZE = 64


def make(name: str, **options):
    torch.manual_seed(0)
    kind = method_class(name)
    return kind(kind.Options(**{"image_size": SIZE, "width": 4, **options}), ("good", "defect")).eval()


@settings(max_examples=40, deadline=None)
@given(height=st.integers(1, 50), width=st.integers(1, 50), cell=st.integers(1, 12), count=st.integers(2, 5))
def test_masks_are_disjoint_squares_that_cover_the_image(height, width, cell, count):
    masks = disjoint_masks(height, width, cell, count)
    assert masks.shape == (count, height, width)
    assert (masks.sum(dim=0) == 1).all()
    squares = masks[:, ::cell, ::cell]
    again = squares.repeat_interleave(cell, dim=1).repeat_interleave(cell, dim=2)[:, :height, :width]
    assert torch.equal(again, masks)
    dealt = squares.sum(dim=(1, 2))
    assert dealt.max() - dealt.min() <= 1


def test_masks_are_dealt_anew():
    torch.manual_seed(0)
    first, second = disjoint_masks(64, 64, 4, 3), disjoint_masks(64, 64, 4, 3)
    assert 0.2 < (first == second).float().mean() < 0.8


def test_inpainting_never_sees_what_it_draws():
    method = make("inpainting")
    images = 0.1 + 0.9 * torch.rand(2, 3, SIZE, SIZE)
    masks = method.deal(8)
    method.network = nn.Identity()  # gives back what it is shown: nothing where it must draw
    assert not method.redrawn(images, masks).any()

    class Negative(nn.Module):
        def forward(self, x):
            return 1 - x  # one where nothing is shown

    method.network = Negative()
    torch.testing.assert_close(method.redrawn(images, masks), torch.ones_like(images))


def test_inpainting_keeps_its_masks_with_its_weights():
    first, second = make("inpainting"), make("inpainting")
    second.masks_8.copy_(second.masks_8.roll(8, dims=2))
    images = torch.rand(1, 3, SIZE, SIZE)
    assert not torch.equal(first(images)["anomaly_map"], second(images)["anomaly_map"])
    second.load_state_dict(first.state_dict())
    assert torch.equal(first(images)["anomaly_map"], second(images)["anomaly_map"])


def test_coarse_noise_has_its_deviation_and_its_grain():
    torch.manual_seed(0)
    images = torch.full((20, 3, 32, 32), 0.5)
    fine = coarse_noise(images, 32, 0.2) - 0.5  # one cell a pixel: the noise as it is drawn
    assert fine.std().item() == pytest.approx(0.2, rel=0.03)
    assert abs(fine.mean().item()) < 0.01
    coarse = coarse_noise(images, 4, 0.2) - 0.5
    inner = (coarse[..., 1:] - coarse[..., :-1]).abs().flatten(0, 2).median()
    assert inner < 0.3 * (fine[..., 1:] - fine[..., :-1]).abs().median()
    assert not torch.equal(coarse[0], coarse[1])


@pytest.mark.parametrize("spoil", [
    lambda images: coarse_noise(images, 8, 0.2), lambda images: confetti(images)[0],
    lambda images: make("draem").spoil(images)[0],
])  # fmt: skip
def test_what_is_put_on_a_grey_image_is_grey(spoil):
    torch.manual_seed(1)
    grey, coloured = torch.rand(6, 1, SIZE, SIZE).expand(-1, 3, -1, -1), torch.rand(6, 3, SIZE, SIZE)
    images = torch.cat([grey, coloured])
    spoiled = spoil(images)
    assert not torch.equal(spoiled[:6], grey)
    assert torch.equal(spoiled[:6].amax(dim=1), spoiled[:6].amin(dim=1))
    changed = (spoiled[6:] - coloured).abs()
    assert float((changed.amax(dim=1) - changed.amin(dim=1)).max()) > 0.05  # a colour of its own elsewhere


def test_draem_spoils_half_of_the_images_only_where_it_says():
    method = make("draem")
    images = torch.rand(3, SIZE, SIZE).repeat(64, 1, 1, 1)
    spoilt, where = method.spoil(images)
    assert torch.equal(spoilt[~where[:, None].expand_as(spoilt)], images[~where[:, None].expand_as(images)])
    changed = (spoilt != images).any(dim=1)
    assert (changed & where).sum() > 0.95 * where.sum()
    assert (spoilt >= 0).all()
    assert (spoilt <= 1).all()
    touched = int(where.flatten(1).any(dim=1).sum())
    # of 64 fair coins; the mask of a spoilt one may be empty
    assert 12 <= touched <= 44, f"chance of that: {sum(comb(64, k) for k in range(12)) / 2**64:.1g}"


def test_draem_takes_its_textures_from_a_folder(tiny_data, tmp_path):
    make("draem", images=str(tiny_data.folder / "mvtec" / "train")).spoil(torch.rand(2, 3, SIZE, SIZE))
    with pytest.raises(DataError, match="holds no images"):
        make("draem", images=str(tmp_path))


def test_deblurring_blurs_as_scipy_does():
    method = make("deblurring", sigma=3.0)
    method.network = nn.Identity()
    images = torch.rand(2, 3, SIZE, SIZE)
    expected = gaussian_filter(images.numpy(), (0, 0, 3, 3), mode="mirror", truncate=4)
    np.testing.assert_allclose(method.restored(images).numpy(), expected, atol=1e-5)


@pytest.mark.parametrize("side", [1, 5, 21])
def test_mean_filter_is_that_of_scipy(side):
    maps = torch.rand(2, 30, 40)
    expected = uniform_filter(maps.numpy(), (0, side, side), mode="nearest")
    np.testing.assert_allclose(mean_filter(maps, side).numpy(), expected, atol=1e-5)


@pytest.mark.parametrize("skips", [True, False])
def test_unet_passes_detail_by_its_skips_alone(skips):
    torch.manual_seed(0)
    network = PlainUNet(1, 1, 4, 3, skips=skips).eval()
    seen = []
    network.joined[0].register_forward_hook(lambda module, inputs, output: seen.append(inputs[0].shape[1]))
    assert network(torch.rand(2, 1, 32, 24)).shape == (2, 1, 32, 24)
    assert seen == [8 if skips else 4]


@pytest.mark.parametrize("name", ["denoising-autoencoder", "deblurring", "inpainting", "draem"])
def test_sides_that_do_not_fit_the_network_are_refused(name):
    with pytest.raises(OptionError, match="multiple of 16"):
        make(name, image_size=100)
