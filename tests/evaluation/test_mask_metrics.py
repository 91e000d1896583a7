"""Metrics of masks against torchmetrics and COCO's own code; boxes and masks through a whole evaluation."""

import json

import numpy as np
import pytest
import torch
from coco_reference import NAMES, coco_average_precision
from graphs import fixed_boxes, make_bundle, two_masks
from pycocotools import mask as coco_mask
from torchmetrics.functional.classification import multiclass_jaccard_index
from torchmetrics.functional.segmentation import dice_score

from blemish.dataset.ground_truth import Instance
from blemish.dataset.sample import Dataset, Sample
from blemish.evaluation.evaluate import evaluate
from blemish.evaluation.mask_metrics import mask_metrics, match_masks, measure_overlap
from blemish.geometry import Box, encode_mask
from blemish.imaging.read import write_image
from blemish.inspection.inspector import Inspector
from blemish.inspection.manifest import Decision
from blemish.inspection.regions import regions_from_map
from blemish.inspection.result import Region

SIZE = (40, 50)


def blobs(rng, count=4):
    """Class numbers (H, W), 0 for good."""
    values = np.zeros(SIZE, np.int64)
    for _ in range(count):
        (y, x), (h, w) = rng.integers(0, 30, 2), rng.integers(3, 16, 2)
        values[y : y + h, x : x + w] = rng.integers(1, 4)
    return values


def layers_of(values):
    return {name: values == k for k, name in enumerate(NAMES, 1)}


@pytest.mark.parametrize("partly", [False, True])
def test_overlap_agrees_with_torchmetrics(partly):
    rng = np.random.default_rng(int(partly))
    references, regions_by_image, valids, images = [], [], [], []
    for _ in range(8):
        annotated = blobs(rng)
        actual = np.where(rng.random(SIZE) < 0.15, blobs(rng), annotated)
        valid = rng.random(SIZE) < 0.7 if partly else None
        layers = layers_of(actual)
        regions = [r for name in layers for r in regions_from_map(np.float32(layers[name]), 1, 1, 0, name)]
        images.append(measure_overlap(regions, annotated > 0, valid, layers_of(annotated)))
        references.append(annotated)
        regions_by_image.append(actual)
        valids.append(np.ones(SIZE, bool) if valid is None else valid)
    measured = mask_metrics(images)
    keep = np.stack(valids)
    annotated, actual = torch.tensor(np.stack(references)[keep]), torch.tensor(np.stack(regions_by_image)[keep])
    ious = multiclass_jaccard_index(actual, annotated, 4, average="none").numpy()
    np.testing.assert_allclose([measured.per_class[n].iou for n in NAMES], ious[1:], atol=1e-6)
    assert measured.miou == pytest.approx(ious[1:].mean(), abs=1e-6)
    good = ((actual == 0) & (annotated == 0)).sum() / ((actual == 0) | (annotated == 0)).sum()
    assert measured.miou_with_good == pytest.approx((float(good) + ious[1:].sum()) / 4, abs=1e-6)
    dice = dice_score(actual[None], annotated[None], 4, average="none", input_format="index").numpy().ravel()
    np.testing.assert_allclose([measured.per_class[n].dice for n in NAMES], dice[1:], atol=1e-6)


@pytest.mark.parametrize("seed", range(4))
def test_instances_agree_with_coco(seed):
    rng = np.random.default_rng(seed)
    compared, references, results = [], [], []
    for i in range(1, 9):
        annotated = [instance for _ in range(int(rng.integers(0, 5))) if (instance := random_instance(rng))]
        regions = []
        for t in annotated:
            if rng.random() < 0.85:
                mask = t.mask ^ (rng.random(t.mask.shape) < 0.2)
                label = t.label if rng.random() < 0.9 else NAMES[0]
                regions.append(Region(label, float(rng.integers(1, 6)) / 5, t.box, mask))
        regions += [Region(x.label, float(rng.integers(1, 6)) / 5, x.box, x.mask) for _ in range(3)
                    if (x := random_instance(rng))]  # fmt: skip
        regions = [r for r in regions if r.mask.any()]
        compared.append(match_masks(regions, annotated))
        references.append([entry(i, t.label, t.box, t.mask) for t in annotated])
        results.append([entry(i, r.label, r.box, r.mask, score=r.score) for r in regions])
    (_, map50, _), _ = coco_average_precision(references, results, "segm")
    plain = measure_overlap([], np.ones((2, 2), bool))
    assert mask_metrics([plain], compared).instance_ap50 == pytest.approx(map50, abs=1e-9)


def random_instance(rng):
    (y, x), (h, w) = rng.integers(0, 25, 2), rng.integers(4, 15, 2)
    mask = np.ones((h, w), bool)
    mask[: h // 3, : w // 2] = rng.random() < 0.5
    return Instance(NAMES[rng.integers(0, 3)], (int(x), int(y), int(x + w), int(y + h)), mask)


def entry(i, label, box, mask, **more):
    x0, y0, x1, y1 = box
    whole = np.zeros(SIZE, np.uint8)
    whole[y0:y1, x0:x1] = mask
    runs = coco_mask.encode(np.asfortranarray(whole))
    category = NAMES.index(label) + 1
    return {"image_id": i, "category_id": category, "segmentation": runs, "area": int(whole.sum()),
            "bbox": list(coco_mask.toBbox(runs)), **more}  # fmt: skip


def test_boxes_of_a_bundle_count_below_the_threshold_too(tmp_path):
    corners = [[2, 2, 12, 12], [30, 30, 50.5, 50], [0, 0, 0, 0]]
    graph = fixed_boxes(corners, [0.9, 0.2, 0.0], [0, 1, 0])
    path = make_bundle(tmp_path / "b.blemish", graph, ["boxes", "box_scores", "box_labels"], Decision(review=0.5),
                       classes=["good", "dent", "pit"])  # fmt: skip
    for i in range(2):
        write_image(tmp_path / f"{i}.png", np.zeros((64, 64), np.uint8))
    samples = (
        Sample(tmp_path / "0.png", boxes=(Box(2, 2, 12, 12, "dent"), Box(30, 30, 50.5, 50, "pit"))),
        Sample(tmp_path / "1.png", label="dent", boxes=(Box(2, 2, 12, 13, "dent"),)),
    )
    result = evaluate(Inspector.open(path, batch_size=1), Dataset(samples, tmp_path, "csv"), speed=False).to_dict()
    actual = json.loads(json.dumps(result))["boxes"]
    assert actual["map50"] == 1  # the second image's false pit comes after all the true ones only in its own class
    assert actual["map75"] == 1
    assert actual["map"] == pytest.approx((0.9 + 0.1 * 51 / 101 + 1) / 2)  # 10 / 11 of the second dent's box is covered
    assert actual["recall_at_1_fp_per_image"] == 1
    assert actual["per_class"]["pit"] == {"map": 1, "map50": 1, "defects": 1}
    assert "masks" not in result


def test_masks_of_a_bundle_by_class_and_instance(tmp_path):
    first, second = np.zeros((64, 64), bool), np.zeros((64, 64), bool)
    first[5:15, 5:15] = first[40:50, 5:15] = True
    second[20:30, 40:60] = True
    annotated = np.zeros_like(first)
    annotated[5:15, 5:15] = annotated[40:50, 30:40] = True  # one found, one elsewhere
    write_image(tmp_path / "a.tif", np.stack([first, second], axis=2).astype(np.float32))
    bundle = make_bundle(tmp_path / "m.blemish", two_masks(), ["mask_scores"], Decision(map_high=0.5),
                         classes=["good", "dent", "pit"], channels=2)  # fmt: skip
    shapes = (encode_mask(annotated, "dent", many=True), encode_mask(second, "pit"))
    sample = Sample(tmp_path / "a.tif", shapes=shapes)
    result = evaluate(Inspector.open(bundle), Dataset((sample,), tmp_path, "csv"), speed=False).to_dict()
    actual = json.loads(json.dumps(result))["masks"]
    assert actual["per_class"]["dent"]["iou"] == pytest.approx(100 / 300)
    assert actual["per_class"]["pit"] == {"iou": 1, "dice": 1}
    assert actual["miou"] == pytest.approx((1 / 3 + 1) / 2)
    assert actual["instance_ap50"] == pytest.approx((51 / 101 + 1) / 2)
    assert "boxes" not in result
