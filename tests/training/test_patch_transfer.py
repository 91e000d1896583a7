"""The classifier of patches: labels cut from masks and boxes, learning from labels alone, and what it points at."""

import numpy as np
import pytest
import torch

from blemish.dataset.sample import Dataset, Sample
from blemish.errors import DataError
from blemish.geometry import Box
from blemish.imaging.read import write_image
from blemish.inspection.manifest import InputSpec
from blemish.training import patch_transfer
from blemish.training.learn.data import View
from blemish.training.patch_transfer import UNKNOWN, fit_head, fit_patch_scorer, label_patches

SIDE = 96
CLASSES = ("good", "dark", "light")
VIEW = View(InputSpec(channels=1, height=SIDE, width=SIDE, fit="stretch"))


@pytest.fixture(autouse=True)
def few_steps(monkeypatch):
    monkeypatch.setattr(patch_transfer, "STEPS", 200)


def picture(kind, seed):
    """A noisy surface, with a square of 32 px that is darker or lighter, and the square's place."""
    rng = np.random.default_rng(seed)
    image = rng.normal(128, 6, (SIDE, SIDE))
    x, y = (int(v) for v in 16 * rng.integers(0, 5, 2))
    if kind != "good":
        image[y : y + 32, x : x + 32] += 80 if kind == "light" else -80
    return image.clip(0, 255).astype(np.uint8)[..., None], (x, y, x + 32, y + 32)


@pytest.fixture(scope="module")
def images(tmp_path_factory):
    """Samples of each class with their squares, in a folder."""
    root, made = tmp_path_factory.mktemp("squares"), []
    for number in range(36):
        kind = CLASSES[number % 3]
        pixels, box = picture(kind, number)
        path = root / f"{number}.png"
        write_image(path, pixels)
        mask = np.zeros((SIDE, SIDE, 1), np.uint8)
        mask[box[1] : box[3], box[0] : box[2]] = 255
        write_image(root / f"{number}_mask.png", mask)
        made.append((kind, path, root / f"{number}_mask.png", box))
    return made


def samples(images, known):
    for kind, path, mask, box in images:
        more = {}
        if kind != "good" and known == "mask":
            more = {"mask": mask}
        elif kind != "good" and known == "boxes":
            more = {"boxes": (Box(*map(float, box), kind),)}
        yield Sample(path, kind, "train", **more)


@pytest.mark.parametrize("known", ["mask", "boxes", "label"])
def test_the_map_of_a_class_points_at_its_defects_only(images, known):
    dataset = Dataset(tuple(samples(images, known)), images[0][1].parent, "csv")
    scorer = fit_patch_scorer(dataset, VIEW, CLASSES)
    assert scorer.supervised == (known != "label")
    assert scorer.trained == ("dark", "light")
    hits = 0
    for seed in range(100, 110):
        kind = CLASSES[1 + seed % 2]
        pixels, (x0, y0, x1, y1) = picture(kind, seed)
        shown = torch.from_numpy(pixels.astype(np.float32) / 255).permute(2, 0, 1)[None]
        own, other = (scorer.maps(shown, name)[0] for name in (kind, CLASSES[3 - CLASSES.index(kind)]))
        assert own.shape == (6, 6)
        row, column = divmod(int(own.argmax()), 6)
        hits += y0 <= 16 * row + 8 < y1 and x0 <= 16 * column + 8 < x1
        assert own.max() > other.max()
        assert torch.equal(scorer.maps(shown, "good")[0], -torch.maximum(own, other))
    assert hits >= 9


def test_same_seed_same_classifier(images):
    dataset = Dataset(tuple(samples(images, "label")), images[0][1].parent, "csv")
    first, again = (fit_patch_scorer(dataset, VIEW, CLASSES, seed=3) for _ in range(2))
    assert torch.equal(first.weight, again.weight)


def test_a_class_without_images_gets_an_empty_map_and_none_at_all_is_an_error(images):
    dataset = Dataset(tuple(samples(images, "mask")), images[0][1].parent, "csv")
    scorer = fit_patch_scorer(dataset, VIEW, (*CLASSES, "never"))
    assert not scorer.maps(torch.rand(1, 1, SIDE, SIDE), "never").any()
    with pytest.raises(DataError, match="no training image with a defect class"):
        fit_patch_scorer(dataset.where(lambda s: s.label == "good"), VIEW, CLASSES)


def item(**known):
    none = torch.zeros(8, 8, dtype=torch.long)
    return {"image": torch.zeros(1, 8, 8), "defective": 1, "has_mask": False, "mask_labels": none, **known}


def test_labels_of_patches_by_hand():
    marked = torch.zeros(8, 8, dtype=torch.long)
    marked[0:4, 0:6] = 2  # fills one patch of 4 px and half of the next one
    marked[7, 7] = 1  # a single pixel: its only patch
    actual = label_patches(item(has_mask=True, mask_labels=marked), (2, 2), 2)
    assert actual.tolist() == [[2, 2], [0, 1]]
    marked[0:4, 5] = 0  # now a quarter of the next one: neither background nor defect
    assert label_patches(item(has_mask=True, mask_labels=marked), (2, 2), 2).tolist() == [[2, UNKNOWN], [0, 1]]
    boxes = torch.tensor([[0.0, 4.0, 4.0, 8.0, 0.0]])
    assert label_patches(item(boxes=boxes), (2, 2), 2).tolist() == [[0, 0], [1, 0]]
    assert (label_patches(item(), (2, 2), 2) == UNKNOWN).all()
    assert not label_patches(item(defective=0), (2, 2), 2).any()


def test_a_bag_is_judged_by_its_highest_patches_that_are_valid():
    """One patch of 20 carries the class; the same patch, invalid, does not."""
    generator = torch.Generator().manual_seed(0)
    bags = 0.1 * torch.randn(60, 20, 4, generator=generator)
    labels = torch.arange(60) % 2
    bags[labels == 1, 7, 2] += 2.0
    valid = torch.ones(60, 20, dtype=torch.bool)
    weight, bias = fit_head(bags, labels, valid, 1, generator)
    scores = (bags @ weight.T + bias)[..., 0]
    assert ((scores.max(dim=1).values > 0) == (labels == 1)).all()
    assert int(weight[0].abs().argmax()) == 2
    valid[:, 7] = False
    blind, _ = fit_head(bags, labels, valid, 1, generator)
    assert blind[0, 2] < 0.5 * weight[0, 2]
