"""For a located and rotated part the data loader gives exactly the pixels that the inspector sees."""

import json
from collections import Counter
from dataclasses import replace

import cv2
import numpy as np
import pytest
import torch
from graphs import anomaly_bundle

from blemish.dataset.sample import Dataset, Sample
from blemish.errors import ImageError
from blemish.geometry import Box, encode_mask, polygon_mask
from blemish.imaging.read import write_image
from blemish.imaging.roi import BlobLocator, Roi
from blemish.imaging.rotated_crop import RotatedCrop
from blemish.inspection.inspector import Inspector
from blemish.inspection.manifest import InputSpec, Tiling
from blemish.methods.catalogue import METHODS, method_class
from blemish.training.learn.data import ImageItems, View
from blemish.training.learn.fit import build_method
from blemish.training.learn.fit_data import describe_unknown_classes, prepare_fit_data
from blemish.training.learn.prepare import make_config

SIZE = (180, 260)
CROP = RotatedCrop((130, 88), 30, 70, 120)
DEFECT = np.array([[80, 15], [104, 15], [104, 27], [80, 27]], np.float64)
ROI = Roi(blob=BlobLocator(level=0.2, upright=True))


def corners(points):
    return [tuple(p) for p in CROP.to_image(points)]


@pytest.fixture
def sample(tmp_path):
    image = np.zeros(SIZE, np.uint8)
    image[polygon_mask(corners(np.array([[0, 0], [120, 0], [120, 70], [0, 70]])), *SIZE)] = 90
    mask = polygon_mask(corners(DEFECT), *SIZE)
    image[mask] = 240
    write_image(tmp_path / "i.png", image[..., None])
    write_image(tmp_path / "m.png", (mask * 255).astype(np.uint8)[..., None])
    return Sample(tmp_path / "i.png", "pit", mask=tmp_path / "m.png")


@pytest.mark.parametrize("tiling", [None, Tiling(height=48, width=48)])
@pytest.mark.parametrize("fit", ["stretch", "letterbox"])
def test_learning_and_inspecting_see_the_same(tmp_path, sample, tiling, fit):
    spec = InputSpec(channels=1, height=96, width=96, fit=fit)
    dataset = Dataset((sample,), tmp_path, "csv")
    items = ImageItems(dataset, View(spec, ROI, tiling), ("good", "pit"), annotations=("mask",))
    bundle = anomaly_bundle(tmp_path / "g.blemish", input=spec, roi=ROI, tiling=tiling)
    seen = Inspector.open(bundle).prepare(sample)
    np.testing.assert_array_equal(torch.stack([item["image"] for item in items]).numpy(), seen)
    bright = seen[:, 0] > 0.65
    for item, expected in zip(items, bright, strict=True):
        found = item["mask"].numpy()
        assert (found ^ expected).sum() <= 0.25 * expected.sum() + 12  # nearest pixel against linear
        np.testing.assert_array_equal(item["mask_labels"].numpy(), found.astype(np.int64))


def test_boxes_and_instances_are_turned_with_the_part(tmp_path, sample):
    spec = InputSpec(channels=1, height=70, width=120)
    dataset = Dataset((sample,), tmp_path, "csv")
    item = ImageItems(dataset, View(spec, ROI), ("good", "pit"), annotations=("mask", "boxes"))[0]
    boxes, masks = item["boxes"].numpy(), item["box_masks"].numpy()
    assert boxes.shape == (1, 5)
    rows, columns = np.flatnonzero(masks[0].any(axis=1)), np.flatnonzero(masks[0].any(axis=0))
    bounds = [columns[0], rows[0], columns[-1] + 1, rows[-1] + 1]
    np.testing.assert_allclose(bounds, [80, 15, 104, 27], atol=2)
    np.testing.assert_allclose(boxes[0, :4], bounds, atol=1)
    alone = ImageItems(dataset, View(spec, ROI), ("good", "pit"), annotations=("boxes",))[0]
    np.testing.assert_array_equal(alone["boxes"], boxes)
    plain = Sample(sample.image, boxes=(Box(10, 5, 20, 12, "pit"),))  # outside the part
    outside = ImageItems(Dataset((plain,), tmp_path, "csv"), View(spec, ROI), ("pit",), annotations=("boxes",))
    assert len(outside[0]["boxes"]) == 0


def test_an_image_without_its_part_is_named(tmp_path, sample):
    write_image(tmp_path / "empty.png", np.zeros((*SIZE, 1), np.uint8))
    view = View(InputSpec(channels=1, height=32, width=32), ROI)
    items = ImageItems(Dataset((Sample(tmp_path / "empty.png"),), tmp_path, "csv"), view, ("good",))
    with pytest.raises(ImageError, match=r"empty\.png: no part was found"):
        items[0]


def test_a_run_keeps_the_way_to_the_part(tmp_path):
    from blemish.training.learn.run import RunConfig, read_config, write_config

    write_config(tmp_path, RunConfig(blemish="0", data="d", method="padim", roi=ROI))
    assert read_config(tmp_path).roi == ROI
    assert json.loads(ROI.model_dump_json())["blob"]["upright"] is True


@pytest.mark.parametrize("tiled", [False, True])
def test_whether_what_is_seen_shows_a_defect(tmp_path, sample, tiled):
    masked = ImageItems(Dataset((sample,), tmp_path, "csv"), view(tiled), ("good", "pit"))
    assert [item["defective"] for item in masked] == [int(item["mask"].any()) for item in masked]
    samples = [Sample(sample.image, "pit"), Sample(sample.image, "good"), Sample(sample.image)]
    several = Sample(sample.image, labels=("pit", "dent"))
    items = ImageItems(Dataset((*samples, several), tmp_path, "csv"), view(tiled), ("good", "pit", "dent"))
    bad = -1 if tiled else 1  # a label does not say which of the tiles is defective
    found = {places[0]: item["defective"] for places, item in zip(items.index, items, strict=True)}
    assert [found[i] for i in range(4)] == [bad, 0, -1, bad]


def view(tiled):
    return View(InputSpec(channels=1, height=60, width=60), None, Tiling(height=60, width=60) if tiled else None)


def test_a_tile_shows_the_box_of_what_is_seen_in_it(tmp_path):
    line = np.zeros((100, 100), np.uint8)
    cv2.line(line, (5, 5), (95, 95), 1, 3)
    write_image(tmp_path / "line.png", np.zeros((100, 100, 1), np.uint8))
    sample = Sample(tmp_path / "line.png", shapes=(encode_mask(line > 0, "pit"),))
    spec = InputSpec(channels=1, height=50, width=50)
    tiled = View(spec, None, Tiling(height=50, width=50, overlap=0.0))
    items = ImageItems(Dataset((sample,), tmp_path, "csv"), tiled, ("pit",), annotations=("mask", "boxes"))
    assert [len(item["boxes"]) for item in items] == [1, 0, 0, 1]  # the other two show its edge at a corner
    for item in (items[0], items[3]):
        rows, columns = np.nonzero(item["box_masks"][0].numpy())
        bounds = [columns.min(), rows.min(), columns.max() + 1, rows.max() + 1]
        np.testing.assert_array_equal(item["boxes"][0, :4], bounds)


def test_a_defect_through_many_tiles_is_looked_for_in_each(tmp_path):
    write_image(tmp_path / "long.png", np.zeros((40, 400, 1), np.uint8))
    sample = Sample(tmp_path / "long.png", boxes=(Box(10, 10, 390, 20, "pit"),))
    tiled = View(InputSpec(channels=1, height=40, width=40), None, Tiling(height=40, width=40, overlap=0.0))
    items = ImageItems(Dataset((sample,), tmp_path, "csv"), tiled, ("pit",), annotations=("boxes",))
    assert [len(item["boxes"]) for item in items] == [1] * 10


def unknown_set(tmp_path):
    """Images of 64 x 64 with two or three defects, and masks that say what some of them are."""
    write_image(tmp_path / "i.png", np.zeros((64, 64, 1), np.uint8))
    mask = np.zeros((64, 64), np.uint8)
    mask[4:14, 6:20] = mask[40:50, 30:44] = mask[20:24, 50:60] = 1
    write_image(tmp_path / "m.png", 255 * mask[..., None])
    outline = np.zeros((64, 64), np.bool_)
    outline[4:14, 6:20] = True
    both = Sample(tmp_path / "i.png", labels=("crack", "stain"), mask=tmp_path / "m.png", split="train")
    samples = [
        both,  # whose defects are of one or the other class
        replace(both, shapes=(encode_mask(outline, "crack"),)),  # one of them is known
        replace(both, labels=None, label="stain"),
        Sample(tmp_path / "i.png", "crack", mask=tmp_path / "m.png", split="train"),
        Sample(tmp_path / "i.png", "good", split="train"),
    ]
    return Dataset(tuple(samples), tmp_path, "csv"), mask > 0, outline


SMALL = {"backbone": "test_resnet", "weights": "random", "image_size": 64}
BY_PLACE = [
    name for name, kind in ((name, method_class(name)) for name in METHODS)
    if "what" in kind.info.answers and {"mask", "boxes"} & {*kind.info.requires}
]  # fmt: skip


@pytest.mark.parametrize("tile", [None, 32])
@pytest.mark.parametrize("name", BY_PLACE)
def test_a_defect_of_unknown_class_is_not_good_surface(tmp_path, name, tile):
    dataset, marked, outline = unknown_set(tmp_path)
    kind, tiling = method_class(name), tile and {"height": tile, "width": tile, "overlap": 0.0}
    config = make_config(tmp_path, dataset, name, SMALL, {"tiling": tiling, "channels": 3, "workers": 0})
    method = build_method(config, dataset)
    assert method.classes == ("good", "crack", "stain")
    loaded = prepare_fit_data(method, dataset, config).training.dataset
    loaded.transform = None
    for (number, tile_number), item in zip(loaded.index, loaded, strict=True):
        sample = loaded.samples[number]
        unknown = np.zeros((64, 64), bool)
        if sample.labels:
            unknown = marked & ~outline if sample.shapes else marked
        if tile is not None:
            y, x = 32 * (tile_number // 2), 32 * (tile_number % 2)
            unknown = unknown[y : y + 32, x : x + 32].repeat(2, axis=0).repeat(2, axis=1)
        np.testing.assert_array_equal(item["valid"].numpy(), ~unknown)
        if "mask_labels" in item and not ({"boxes"} & set(kind.info.requires)):
            background = (item["mask_labels"] == 0) & item["valid"]
            np.testing.assert_array_equal(background.numpy(), ~item["mask"].numpy())
        if "boxes" in item:
            assert bool(item["has_boxes"]) == (len(item["boxes"]) > 0 or not unknown.any())
    line = describe_unknown_classes(method, dataset, tile is not None)
    assert line.startswith("2 of 5 training images show defects whose class no annotation says")


def test_a_method_without_classes_learns_from_defects_of_any_class(tmp_path):
    dataset, marked, _ = unknown_set(tmp_path)
    options = {**SMALL, "strides": [4, 8]}
    config = make_config(tmp_path, dataset, "supersimplenet", options, {"channels": 3})
    method = build_method(config, dataset)
    item = prepare_fit_data(method, dataset, config).training.dataset[0]
    assert item["valid"].all()
    assert int(item["mask"].sum()) == int(marked.sum())
    assert describe_unknown_classes(method, dataset, False) is None


def test_windows_of_unknown_class_teach_a_classifier_of_several_labels_nothing(tmp_path):
    dataset = unknown_set(tmp_path)[0].where(lambda s: s.shapes is None)
    tiling = {"height": 32, "width": 32, "overlap": 0.0}
    options = {"backbone": "compact", "image_size": 64, "multi_label": True}
    config = make_config(tmp_path, dataset, "classifier", options, {"tiling": tiling, "channels": 3})
    method = build_method(config, dataset)
    dataset = dataset.with_samples([*dataset.samples, *dataset.samples[1:]])  # two images a class are needed
    loaded = prepare_fit_data(method, dataset, config).training.dataset
    known = [(s.label, bool(item["has_label"])) for s, item in zip(loaded.samples, loaded, strict=True)]
    shown = Counter(known)
    assert shown["defect", False] == 3  # the fourth tile shows too little of a defect to be a window
    assert shown["defect", True] == 0
    assert all(has for label, has in known if label != "defect")
