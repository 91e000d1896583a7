"""Generated textures, folders of images and confetti."""

import pytest
import torch

from blemish.errors import DataError
from blemish.methods.common.textures import AuxiliaryImages, confetti, textures


def test_textures_vary_and_repeat_with_the_seed():
    torch.manual_seed(5)
    first = textures(4, 3, 64)
    torch.manual_seed(5)
    torch.testing.assert_close(textures(4, 3, 64), first, rtol=0, atol=0)
    assert float(first.min()) >= 0
    assert float(first.max()) <= 1
    assert bool((first.flatten(1).std(dim=1) > 0.05).all())


def test_a_folder_without_images_is_one_clear_line(tmp_path):
    with pytest.raises(DataError, match="no images in"):
        AuxiliaryImages(str(tmp_path), 3, 64)


def test_confetti_changes_only_masked_pixels():
    torch.manual_seed(0)
    images = torch.rand(6, 3, 64, 64)
    before = images.clone()
    corrupted, where = confetti(images)
    torch.testing.assert_close(images, before, rtol=0, atol=0)
    changed = (corrupted != images).any(dim=1)
    assert not bool((changed & ~where).any())
    assert float((changed & where).sum() / where.sum()) > 0.99
    assert float(corrupted.min()) >= 0
    assert float(corrupted.max()) <= 1
