"""Mixup and CutMix of images and masks."""

import pytest
import torch

from blemish.methods.common.mixup import cutmix, cutmix_pixels, mixup

IMAGES = torch.rand(6, 3, 20, 30)


def test_mixup_blends_two_images():
    torch.manual_seed(0)
    mixed, partner, share = mixup(IMAGES, 1.0)
    torch.testing.assert_close(mixed, share * IMAGES + (1 - share) * IMAGES[partner])
    assert sorted(partner.tolist()) == list(range(6))


def test_cutmix_pastes_a_rectangle_of_that_area():
    for seed in range(20):
        torch.manual_seed(seed)
        before = IMAGES.clone()
        mixed, partner, share = cutmix(IMAGES, 1.0)
        assert torch.equal(IMAGES, before)
        i = next((i for i in range(6) if partner[i] != i), None)
        own, other = (mixed[i] == IMAGES[i]).all(dim=0), (mixed[i] == IMAGES[partner[i]]).all(dim=0)
        assert (own | other).all()
        assert own.float().mean().item() == pytest.approx(share, abs=1e-6)
        rows, columns = other.nonzero().T if other.any() else (torch.zeros(0), torch.zeros(0))
        if other.any():
            assert other.sum() == (rows.max() - rows.min() + 1) * (columns.max() - columns.min() + 1)


def test_cutmix_mixes_masks_like_images():
    """Each image says itself which of its pixels are defective and which are known."""
    for seed in range(20):
        torch.manual_seed(seed)
        labels = torch.randint(0, 3, (4, 20, 30))
        known = torch.tensor([True, True, False, True])
        valid = torch.rand(4, 20, 30) > 0.3
        image = torch.stack([labels.float(), (valid & known[:, None, None]).float(), torch.rand(4, 20, 30)], dim=1)
        batch = {"image": image, "mask": labels > 0, "mask_labels": labels, "valid": valid, "has_mask": known}
        mixed, partner, share = cutmix_pixels(batch, 1.0)
        assert torch.equal(mixed["image"][:, 0], mixed["mask_labels"].float())
        assert torch.equal(mixed["mask"], mixed["mask_labels"] > 0)
        counted = mixed["valid"] & mixed["has_mask"][:, None, None]
        assert torch.equal(mixed["image"][:, 1] > 0, counted)
        own = mixed["image"][:, 2] == image[:, 2]
        for i in (partner != torch.arange(4)).nonzero().ravel().tolist():
            assert own[i].float().mean().item() == pytest.approx(share, abs=1e-6)
        assert torch.equal(batch["valid"], valid)
