"""Mosaics of four images."""

import torch

from blemish.methods.detection.mosaic import make_mosaics

SIDE = 128


def test_mosaics_keep_boxes_and_masks_on_their_defects():
    """Each image has one rectangle of its own grey, which identifies its box."""
    torch.manual_seed(0)
    count = 6
    images = torch.zeros(count, 1, SIDE, SIDE)
    boxes, masks = [], []
    for i in range(count):
        x0, y0 = (int(v) for v in torch.randint(8, 80, (2,)))
        images[i, 0, y0 : y0 + 30, x0 : x0 + 40] = (i + 1) / 10
        masks.append(images[i] > 0)
        boxes.append(torch.tensor([[x0, y0, x0 + 40, y0 + 30, i]], dtype=torch.float32))
    batch = {"image": images, "valid": images[:, 0] == 0, "boxes": boxes, "box_masks": masks, "label": boxes}
    seen = 0
    for _ in range(5):
        mixed = make_mosaics(batch, 1.0)
        assert set(mixed) == {"image", "valid", "boxes", "box_masks"}
        assert (mixed["valid"] == (mixed["image"][:, 0] < 0.05)).float().mean() > 0.98
        assert mixed["image"].shape == images.shape
        for image, result, own in zip(mixed["image"], mixed["boxes"], mixed["box_masks"], strict=True):
            assert len(result) == len(own)
            for box, mask in zip(result, own, strict=True):
                grey = (int(box[4]) + 1) / 10
                x0, y0, x1, y1 = box[:4].tolist()
                rows, columns = torch.where(mask)
                bounds = [columns.min(), rows.min(), columns.max() + 1, rows.max() + 1]
                assert max(abs(float(a) - b) for a, b in zip(bounds, (x0, y0, x1, y1), strict=True)) <= 1
                middle = image[0, round(y0) + 1 : round(y1) - 1, round(x0) + 1 : round(x1) - 1]
                assert (middle - grey).abs().median() < 0.01
                seen += 1
    assert seen > 20
    assert torch.equal(make_mosaics(batch, 0.0)["image"], images)
