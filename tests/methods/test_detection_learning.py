"""What detectors learn from: assignment, sampling, mosaics and pooling, against brute force and torchvision."""

import math

import pytest
import torch
from torchvision.ops import box_iou
from torchvision.ops.poolers import LevelMapper

from blemish.methods.detection import fcos, sim_ota
from blemish.methods.detection.boxes import points_of
from blemish.methods.detection.mosaic import mosaic
from blemish.methods.detection.retinanet import RetinaNetOptions
from blemish.methods.detection.roi import RegionPool
from blemish.methods.detection.ssd import hard_negatives
from blemish.methods.detection.yolo import Yolo, YoloOptions
from blemish.training.learn.fit import build, fit
from blemish.training.learn.run import RunConfig

SIDE = 128
STRIDES = (8, 16, 32)


def places():
    """Points (K, 2) and strides (K,) of three levels."""
    points = [points_of(SIDE // s, SIDE // s, s) for s in STRIDES]
    return torch.cat(points), torch.cat([torch.full((len(p),), float(s)) for p, s in zip(points, STRIDES, strict=True)])


def some_truth(count: int, seed: int) -> torch.Tensor:
    torch.manual_seed(seed)
    low = torch.rand(count, 2) * 80
    return torch.cat([low, low + 6 + torch.rand(count, 2) * 40, torch.randint(3, (count, 1)).float()], dim=1)


def assigned_one_by_one(points, strides, boxes, scores, truth):
    """Ge et al. 2021 in plain loops: {place: box}."""
    centres = (truth[:, :2] + truth[:, 2:4]) / 2
    inside = [[bool((p > t[:2]).all() and (p < t[2:4]).all()) for p in points] for t in truth]
    near = [
        [float((p - c).abs().max()) < 2.5 * float(s) for p, s in zip(points, strides, strict=True)] for c in centres
    ]
    usable = [k for k in range(len(points)) if any(i[k] or n[k] for i, n in zip(inside, near, strict=True))]
    iou = box_iou(truth[:, :4], boxes)
    cost = {}
    for m, t in enumerate(truth):
        for k in usable:
            wanted = [float(c == int(t[4])) for c in range(scores.shape[1])]
            given = [min(max(float(s), 1e-6), 1 - 1e-6) for s in scores[k]]
            named = -sum(w * math.log(g) + (1 - w) * math.log(1 - g) for w, g in zip(wanted, given, strict=True))
            far = 0 if inside[m][k] and near[m][k] else 1e5
            cost[m, k] = named - 3 * math.log(float(iou[m, k]) + 1e-8) + far
    takers: dict[int, list[int]] = {}
    for m in range(len(truth)):
        best = sorted((float(iou[m, k]) for k in usable), reverse=True)[:10]
        for k in sorted(usable, key=lambda k: cost[m, k])[: max(1, int(sum(best)))]:
            takers.setdefault(k, []).append(m)
    return {k: min(range(len(truth)), key=lambda m: cost[m, k]) if len(ms) > 1 else ms[0] for k, ms in takers.items()}


@pytest.mark.parametrize("seed", range(3))
def test_sim_ota_is_the_papers(seed):
    points, strides = places()
    truth = some_truth(4, seed)
    boxes = torch.cat([points - 12, points + 12], dim=1) + torch.randn(len(points), 4)
    scores = torch.rand(len(points), 3)
    found = sim_ota.assign(points, strides, boxes, scores, truth)
    expected = assigned_one_by_one(points, strides, boxes, scores, truth)
    assert dict(zip(found.places.tolist(), found.boxes.tolist(), strict=True)) == expected
    torch.testing.assert_close(found.iou, box_iou(truth[:, :4], boxes)[found.boxes, found.places])


def test_sim_ota_of_a_good_image_finds_nothing():
    points, strides = places()
    found = sim_ota.assign(points, strides, torch.rand(len(points), 4), torch.rand(len(points), 3), torch.zeros(0, 5))
    assert len(found.places) == len(found.boxes) == len(found.iou) == 0


@pytest.mark.parametrize("seed", range(3))
def test_fcos_gives_each_place_the_smallest_box_of_its_reach(seed):
    points, strides = places()
    truth = some_truth(6, seed)[:, :4]
    found = fcos.find(points, strides, truth).tolist()
    for k, (p, s) in enumerate(zip(points, strides.tolist(), strict=True)):
        able = []
        for m, box in enumerate(truth):
            sides = torch.cat([p - box[:2], box[2:] - p])
            least, most = {8.0: (0, 64), 16.0: (64, 128), 32.0: (128, math.inf)}[s]
            central = float((p - (box[:2] + box[2:]) / 2).abs().max()) < 1.5 * s
            if sides.min() > 0 and central and least < sides.max() <= most:
                able.append((float((box[2:] - box[:2]).prod()), m))
        assert found[k] == (min(able)[1] if able else -1)
    assert max(found) >= 0


def test_hard_negatives_are_the_worst_of_each_image():
    torch.manual_seed(0)
    losses, positive = torch.rand(4, 50), torch.rand(4, 50) < 0.1
    positive[0] = False
    negative = ~positive & (torch.rand(4, 50) < 0.8)
    found = hard_negatives(losses, positive, negative, 3.0)
    for own, hit, able, chosen in zip(losses, positive, negative, found, strict=True):
        count = 3 * max(1, int(hit.sum()))
        order = sorted((i for i in range(50) if able[i]), key=lambda i: -float(own[i]))[:count]
        assert sorted(chosen.nonzero().flatten().tolist()) == sorted(order)


def test_regions_take_the_level_that_torchvision_gives_them():
    torch.manual_seed(0)
    low = torch.rand(200, 2) * 50
    boxes = torch.cat([low, low + 1 + torch.rand(200, 2) * 900], dim=1)
    levels = RegionPool("align", 7, list(STRIDES)).level_of(boxes)
    assert set(levels.tolist()) == {0, 1, 2}
    assert torch.equal(levels, LevelMapper(3, 5, canonical_scale=224, canonical_level=4)([boxes]))


@pytest.mark.parametrize("kind", ["align", "pool"])
def test_regions_are_pooled_where_they_lie(kind):
    """A map of stride s holds, at each cell, the x of the cell's centre; a region's grid is then known."""
    ramps = []
    for stride in STRIDES:
        centres = (torch.arange(1024 // stride) + 0.5) * stride
        ramps.append(centres.expand(2, 1, len(centres), -1).contiguous())
    boxes = torch.tensor([[[96.0, 96, 152, 152], [64, 0, 512, 448]], [[8.0, 8, 64, 64], [0, 0, 896, 896]]])
    grids = RegionPool(kind, 7, list(STRIDES))(ramps, boxes).view(2, 2, 7, 7)
    for box, grid in zip(boxes.flatten(0, 1), grids.flatten(0, 1), strict=True):
        step = float(box[2] - box[0]) / 7
        expected = float(box[0]) + (torch.arange(7) + 0.5) * step
        # RoIPool takes the largest cell of each part, rounded outwards to whole cells.
        torch.testing.assert_close(grid[3], expected, atol=1e-3 if kind == "align" else 1.6 * step, rtol=0)


def test_mosaics_keep_boxes_and_masks_on_their_defects():
    """Each image has one rectangle of its own grey, which tells whose box it is."""
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
        mixed = mosaic(batch, 1.0)
        assert set(mixed) == {"image", "valid", "boxes", "box_masks"}
        assert (mixed["valid"] == (mixed["image"][:, 0] < 0.05)).float().mean() > 0.98
        assert mixed["image"].shape == images.shape
        for image, found, own in zip(mixed["image"], mixed["boxes"], mixed["box_masks"], strict=True):
            assert len(found) == len(own)
            for box, mask in zip(found, own, strict=True):
                grey = (int(box[4]) + 1) / 10
                x0, y0, x1, y1 = box[:4].tolist()
                rows, columns = torch.where(mask)
                bounds = [columns.min(), rows.min(), columns.max() + 1, rows.max() + 1]
                assert max(abs(float(a) - b) for a, b in zip(bounds, (x0, y0, x1, y1), strict=True)) <= 1
                middle = image[0, round(y0) + 1 : round(y1) - 1, round(x0) + 1 : round(x1) - 1]
                assert (middle - grey).abs().median() < 0.01
                seen += 1
    assert seen > 20
    assert torch.equal(mosaic(batch, 0.0)["image"], images)


def test_what_begins_from_nothing_learns_at_the_full_rate():
    def rates(**options):
        method = Yolo(YoloOptions(image_size=64, width=16, **options), ("good", "pit"))
        optimizer = method.configure_optimizers()["optimizer"]
        return {group["initial_lr"] for group in optimizer.param_groups}

    assert rates(backbone="csp", learning_rate=1e-2) == {1e-2}
    assert rates(backbone="test_resnet", weights="random", learning_rate=1e-2) == {1e-2}


@pytest.mark.parametrize("tile", [None, 32])
def test_anchors_are_fitted_to_boxes_as_the_network_sees_them(tile, tiny_data, tmp_path):
    """Defects of 13 px: in tiles of half the image's side, which the network sees enlarged, of 26."""
    options = {"image_size": 64, "batch_size": 8, "steps": 1, "backbone": "test_resnet", "weights": "random",
               "width": 16, "depth": 0, "anchors": "fitted", "scales": (1.0,), "ratios": (1.0,),
               "flip": False, "turn": False, "zoom": 0, "shift": 0}  # fmt: skip
    config = RunConfig(
        blemish="0",
        data="",
        method="retinanet",
        options=RetinaNetOptions(**options).model_dump(mode="json"),
        trainer={"accelerator": "cpu"},
        tiling=None if tile is None else {"height": tile, "width": tile, "overlap": 0.0},
    )
    whole = tiny_data.dataset(("boxes",))
    pits = whole.with_samples([s for s in whole.samples if s.label == "pit"])
    method = build(config, pits)
    fit(method, pits, config, run=tmp_path / "run")
    sides = method.anchors.shapes[:, 0, 0].tolist()  # of strides 8, 16, 32 and 64
    near = {1: 13} if tile is None else {2: 26}
    assert [sides[level] for level in near] == pytest.approx(list(near.values()))
    assert [sides[0], sides[3]] == [8, 64]  # as stated, for no box is near to them
