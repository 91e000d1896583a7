"""DRAEM's synthetic defects."""

from math import comb

import pytest
import torch

from blemish.errors import DataError

SIZE = 64


def test_half_of_the_images_are_corrupted_only_within_the_masks(make_method):
    method = make_method("draem")
    images = torch.rand(3, SIZE, SIZE).repeat(64, 1, 1, 1)
    corrupted, where = method.corrupt(images)
    assert torch.equal(corrupted[~where[:, None].expand_as(corrupted)], images[~where[:, None].expand_as(images)])
    changed = (corrupted != images).any(dim=1)
    assert (changed & where).sum() > 0.95 * where.sum()
    assert (corrupted >= 0).all()
    assert (corrupted <= 1).all()
    touched = int(where.flatten(1).any(dim=1).sum())
    # of 64 fair coins; the mask of a corrupted one may be empty
    assert 12 <= touched <= 44, f"chance of that: {sum(comb(64, k) for k in range(12)) / 2**64:.1g}"


def test_draem_takes_its_textures_from_a_folder(tiny_data, tmp_path, make_method):
    make_method("draem", images=str(tiny_data.folder / "mvtec" / "train")).corrupt(torch.rand(2, 3, SIZE, SIZE))
    with pytest.raises(DataError, match="no images in"):
        make_method("draem", images=str(tmp_path))
