"""Corruptions of good images: disjoint masks and coarse noise."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from blemish.methods.common.corruption import coarse_noise, disjoint_masks


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


def test_disjoint_masks_are_random():
    torch.manual_seed(0)
    first, second = disjoint_masks(64, 64, 4, 3), disjoint_masks(64, 64, 4, 3)
    assert 0.2 < (first == second).float().mean() < 0.8


def test_coarse_noise_has_its_deviation_and_its_grain():
    torch.manual_seed(0)
    images = torch.full((20, 3, 32, 32), 0.5)
    fine = coarse_noise(images, 32, 0.2) - 0.5  # one cell a pixel: the noise as it is sampled
    assert fine.std().item() == pytest.approx(0.2, rel=0.03)
    assert abs(fine.mean().item()) < 0.01
    coarse = coarse_noise(images, 4, 0.2) - 0.5
    inner = (coarse[..., 1:] - coarse[..., :-1]).abs().flatten(0, 2).median()
    assert inner < 0.3 * (fine[..., 1:] - fine[..., :-1]).abs().median()
    assert not torch.equal(coarse[0], coarse[1])
