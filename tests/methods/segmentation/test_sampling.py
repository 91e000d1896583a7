"""Sampling of images, crops and pixels for segmentation."""

from collections import Counter
from pathlib import Path

import pytest
import torch

from blemish.dataset.sample import Dataset, Sample
from blemish.methods.segmentation.sampling import balanced_weights, random_crop, sample_pixels


def dataset(**counts: int) -> Dataset:
    samples = [Sample(Path(f"{name}{i}"), label=name) for name, count in counts.items() for i in range(count)]
    return Dataset(tuple(samples), Path(), "csv")


@pytest.mark.parametrize(("balance", "pits"), [(0.0, 0.2), (0.5, 1 / 3), (1.0, 0.5)])
def test_balanced_weights_give_the_requested_shares(balance, pits):
    data = dataset(good=70, scratch=16, pit=4)
    weights = balanced_weights(data, 0.4, balance)
    shares = Counter()
    for sample, weight in zip(data.samples, weights, strict=True):
        shares[sample.label] += weight / sum(weights)
    assert shares["good"] == pytest.approx(0.6)
    assert shares["pit"] == pytest.approx(0.4 * pits)


def test_balanced_weights_of_defective_images_only():
    assert all(balanced_weights(dataset(pit=3, scratch=5), 0.4, 0.5))


def test_random_crops_contain_a_defect_on_request():
    torch.manual_seed(0)
    mask = torch.zeros(100, 120, dtype=torch.bool)
    mask[3, 117] = mask[90:95, 10:12] = True
    item = {
        "image": mask[None].float(), "mask": mask, "valid": ~mask, "mask_labels": mask.long(), "label": 1,
    }  # fmt: skip
    cuts = [random_crop(item, 32, 1.0) for _ in range(40)]
    assert all(cut["mask"].any() and cut["image"].shape == (1, 32, 32) for cut in cuts)
    assert all(torch.equal(cut["image"][0] > 0, cut["mask"]) for cut in cuts)
    assert all(torch.equal(cut["mask_labels"] > 0, ~cut["valid"]) for cut in cuts)
    assert {int(cut["mask"].sum()) == 1 for cut in cuts} == {True, False}  # either defect is found at times
    assert sum(bool(random_crop(item, 32, 0.0)["mask"].any()) for _ in range(40)) < 40


def test_sample_pixels_of_each_class_among_valid_pixels():
    torch.manual_seed(0)
    labels = torch.zeros(2, 32, 32, dtype=torch.long)
    labels[0, 8:16, 8:16] = 2
    keep = torch.ones(2, 32, 32, dtype=torch.bool)
    keep[1] = False
    grid = labels[:, ::4, ::4]
    features = torch.stack([grid.float(), torch.arange(128.0).view(2, 8, 8)], dim=1)  # the class, and the place
    vectors, classes = sample_pixels(features, labels, keep, 10)
    assert classes.bincount().tolist() == [10, 0, 4]
    assert torch.equal(vectors[:, 0].long(), classes)
    assert len(vectors[:, 1].unique()) == 14
    assert float(vectors[:, 1].max()) < 64  # the second image does not count
    assert len(sample_pixels(features, labels, ~keep & (labels < 0), 10)[1]) == 0
