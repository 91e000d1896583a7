"""Patch-SVDD: dense embeddings, maps and patches."""

import numpy as np
import pytest
import torch

from blemish.errors import OptionError
from blemish.methods.one_class.patch_svdd import (
    DIRECTIONS,
    MIN_IMAGE_SIZE,
    PatchSVDD,
    PatchSVDDOptions,
    neighbouring_patches,
)

CLASSES = ("good", "defect")


@pytest.mark.parametrize("side", [32, 64])
def test_dense_embedding_equals_patch_by_patch(side):
    torch.manual_seed(0)
    method = PatchSVDD(PatchSVDDOptions(image_size=MIN_IMAGE_SIZE, dimensions=8), CLASSES).eval()
    image = torch.rand(1, 3, MIN_IMAGE_SIZE, MIN_IMAGE_SIZE)
    with torch.inference_mode():
        dense = method.embed(image)[0 if side == 32 else 1]
        for y, x in [(0, 0), (8, 4), (dense.shape[2] * 4 - 4, 16)]:
            patch = image[:, :, y : y + side, x : x + side] - 0.5
            torch.testing.assert_close(method.encode(patch, side)[0], dense[0, :, y // 4, x // 4], rtol=1e-4, atol=1e-5)
    assert dense.shape[2] == (MIN_IMAGE_SIZE - side) // 4 + 1


def test_map_has_each_patch_at_its_centre():
    method = PatchSVDD(PatchSVDDOptions(image_size=MIN_IMAGE_SIZE), CLASSES)
    maps = torch.zeros(1, 37, 37)
    maps[0, 5, 9] = 1
    spread = method._to_image(maps, 32)[0]
    assert spread.shape == (MIN_IMAGE_SIZE, MIN_IMAGE_SIZE)
    weights = spread / spread.sum()
    middle = (
        (weights.sum(1) * torch.arange(MIN_IMAGE_SIZE)).sum(),
        (weights.sum(0) * torch.arange(MIN_IMAGE_SIZE)).sum(),
    )
    assert [float(m) for m in middle] == pytest.approx([5 * 4 + 15.5, 9 * 4 + 15.5], abs=0.01)


@pytest.mark.parametrize("size", [MIN_IMAGE_SIZE, 256])
@pytest.mark.parametrize("side", [32, 64])
def test_neighbours_are_in_their_direction(side, size):
    torch.manual_seed(0)
    y, x = torch.meshgrid(torch.arange(float(size)), torch.arange(float(size)), indexing="ij")
    images = torch.stack([y, x, 0 * x]).repeat(4, 1, 1, 1)  # each pixel's colour is its place
    first, second, direction = neighbouring_patches(images, side, 16)
    moved = (second - first).mean(dim=(2, 3))[:, :2]
    for offset, wanted in zip(moved, torch.tensor(DIRECTIONS)[direction], strict=True):
        np.testing.assert_allclose(offset.numpy() / (3 * side / 4), wanted.numpy(), atol=0.2)


def test_images_without_room_for_all_neighbours_are_refused():
    assert MIN_IMAGE_SIZE == 176
    with pytest.raises(OptionError, match=r"image_size=160 is too small.* need 176"):
        PatchSVDD(PatchSVDDOptions(image_size=160), CLASSES)
