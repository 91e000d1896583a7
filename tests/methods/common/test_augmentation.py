"""Images, masks and boxes of an augmented item stay together."""

import pytest
import torch
from torchvision.transforms import v2

from blemish.methods.common.augmentation import AugmentationOptions, augment, iou_crop

SIZE = 96


def item_with_rectangle(x0: int, y0: int, x1: int, y1: int) -> dict[str, torch.Tensor]:
    """A white rectangle on black, with every kind of annotation."""
    mask = torch.zeros(SIZE, SIZE, dtype=torch.bool)
    mask[y0:y1, x0:x1] = True
    return {
        "image": mask.float().expand(3, -1, -1).clone(),
        "valid": torch.ones(SIZE, SIZE, dtype=torch.bool),
        "label": torch.tensor(1),
        "mask": mask.clone(),
        "mask_labels": mask.long() * 2,
        "boxes": torch.tensor([[x0, y0, x1, y1, 1.0]]),
        "box_masks": mask[None].clone(),
    }


@pytest.mark.parametrize(
    "how",
    [
        AugmentationOptions(flip=True, turn=False, zoom=0, shift=0, brightness=0, contrast=0),
        AugmentationOptions(flip=False, turn=True, zoom=0, shift=0, brightness=0, contrast=0),
        AugmentationOptions(flip=True, turn=True, zoom=0.3, shift=0.1, brightness=0, contrast=0),
        AugmentationOptions(flip=True, turn=True, rotate=20, zoom=0.1, shift=0.1, brightness=0, contrast=0),
    ],
)
def test_everything_moves_together(how: AugmentationOptions) -> None:
    before = item_with_rectangle(30, 40, 70, 52)
    kept = {key: value.clone() for key, value in before.items()}
    for seed in range(12):
        torch.manual_seed(seed)
        after = augment(before, how)
        seen = after["image"][0] > 0.75 if how.zoom or how.rotate else after["image"][0] > 0.5
        mask = after["mask"]
        assert (seen & mask & after["valid"]).sum() >= 0.85 * (seen & after["valid"]).sum()
        assert torch.equal(after["mask_labels"] > 0, mask)
        assert torch.equal(after["box_masks"][0], mask)
        rows, columns = torch.where(mask)
        found = torch.tensor([columns.min(), rows.min(), columns.max() + 1, rows.max() + 1])
        slack = 1 if not how.rotate else 16  # the box of a turned box is larger than that of its content
        assert (after["boxes"][0, :4] - found).abs().max() <= slack
        assert after["boxes"][0, 4] == 1
    for key, value in kept.items():
        assert torch.equal(before[key], value), f"{key} was changed in place"


def test_boxes_that_leave_the_picture_go() -> None:
    how = AugmentationOptions(flip=False, turn=False, zoom=0, shift=0.6, brightness=0, contrast=0)
    before = item_with_rectangle(0, 0, 12, 12)
    counts = set()
    for seed in range(30):
        torch.manual_seed(seed)
        after = augment(before, how)
        counts.add(len(after["boxes"]))
        assert len(after["boxes"]) == len(after["box_masks"])
        assert (after["boxes"][:, :4] >= 0).all()
        assert (after["boxes"][:, :4] <= SIZE).all()
    assert counts == {0, 1}


@pytest.mark.parametrize(("left", "stays"), [(20, True), (30, True), (34, False), (39, False)])
def test_a_box_of_which_little_is_left_goes(monkeypatch, left: int, stays: bool) -> None:
    """A defect 40 px wide is shifted out of the picture by `left` px: under a quarter of it does not count."""
    monkeypatch.setattr(v2.RandomAffine, "make_params", lambda self, parts: {
        "angle": 0.0, "translate": (-left, 0), "scale": 1.0, "shear": (0.0, 0.0),
    })  # fmt: skip
    how = AugmentationOptions(flip=False, turn=False, zoom=0, shift=0.5, brightness=0, contrast=0)
    after = augment(item_with_rectangle(0, 20, 40, 60), how)
    assert after["boxes"].tolist() == ([[0, 20, 40 - left, 60, 1]] if stays else [])
    assert len(after["box_masks"]) == int(stays)


def test_brightness_leaves_the_truth_alone() -> None:
    how = AugmentationOptions(
        flip=False, turn=False, zoom=0, shift=0, brightness=0.3, contrast=0.3, blur=1.0, noise=0.05
    )
    before = item_with_rectangle(30, 40, 70, 52)
    torch.manual_seed(0)
    after = augment(before, how)
    assert not torch.equal(after["image"], before["image"])
    assert torch.equal(after["mask"], before["mask"])
    assert after["image"].min() >= 0
    assert after["image"].max() <= 1


def test_a_turned_defect_keeps_a_close_box():
    """At 45 degrees the turned box of a diagonal line is about as wide as high, the line itself is flat."""
    mask = torch.eye(64, dtype=torch.bool)
    mask = mask | mask.roll(1, 0) | mask.roll(-1, 0)
    item = {
        "image": torch.zeros(3, 64, 64),
        "valid": torch.ones(64, 64, dtype=torch.bool),
        "boxes": torch.tensor([[0.0, 0, 64, 64, 0]]),
        "box_masks": mask[None],
    }
    how = AugmentationOptions(flip=False, turn=False, rotate=45, zoom=0, shift=0)
    torch.manual_seed(0)
    for _ in range(10):
        after = augment(item, how)
        rows, columns = after["box_masks"][0].nonzero().unbind(1)
        bounds = [columns.min(), rows.min(), columns.max() + 1, rows.max() + 1]
        assert after["boxes"][0, :4].tolist() == [float(b) for b in bounds]


@pytest.mark.parametrize(("share", "canvas"), [(1.0, 1.0), (0.0, 3.0), (1.0, 3.0)])
def test_what_is_cut_out_keeps_its_truth(share: float, canvas: float) -> None:
    before = item_with_rectangle(30, 40, 70, 60)
    areas = []
    for seed in range(40):
        torch.manual_seed(seed)
        after = iou_crop(before, share, canvas)
        assert {key: value.shape[-2:] for key, value in after.items() if key in ("image", "valid", "mask")} == {
            key: (SIZE, SIZE) for key in ("image", "valid", "mask")
        }
        assert len(after["boxes"]) == len(after["box_masks"]) == 1
        seen = after["image"][0] > 0.75
        areas.append(int(seen.sum()))
        assert (seen & after["mask"]).sum() >= 0.85 * areas[-1]
        assert torch.equal(after["mask_labels"], after["mask"].long() * 2)
        assert torch.equal(after["box_masks"][0], after["mask"])
        assert (after["image"][0][~after["valid"]] - 0.5).abs().median() < 0.01 or after["valid"].all()
        rows, columns = torch.where(after["mask"])
        found = torch.tensor([columns.min(), rows.min(), columns.max() + 1, rows.max() + 1])
        assert (after["boxes"][0, :4] - found).abs().max() <= 1.5
    whole = 40 * 20
    assert (max(areas) > 1.5 * whole) == (share > 0), "a part shows its defect larger"
    assert (min(areas) < 0.3 * whole) == (canvas > 1), "a canvas shows it smaller"
    assert whole in areas, "some stay as they are"


def test_an_image_without_boxes_can_be_cut_out() -> None:
    item = item_with_rectangle(30, 40, 70, 60)
    item |= {"boxes": torch.zeros(0, 5), "box_masks": torch.zeros(0, SIZE, SIZE, dtype=torch.bool)}
    after = iou_crop(item, 1.0, 2.0)
    assert after["boxes"].shape == (0, 5)
    assert after["box_masks"].shape == (0, SIZE, SIZE)
    assert after["image"].shape == item["image"].shape
