"""Sliding windows: their classes by the stated rule, learning from them, and their joining into a map and boxes."""

import shutil
from dataclasses import replace

import numpy as np
import pytest
from graphs import make_bundle, model
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import helper

from blemish.dataset.read import read_dataset
from blemish.dataset.sample import GOOD, Dataset, Sample
from blemish.errors import DataError
from blemish.evaluation.evaluate import evaluate
from blemish.geometry import Box
from blemish.imaging.read import write_image
from blemish.imaging.roi import Roi
from blemish.imaging.tiling import tile_boxes
from blemish.inspection.bundle import replace_manifest
from blemish.inspection.inspector import Inspector
from blemish.inspection.manifest import Decision, InputSpec, Tiling
from blemish.inspection.result import Verdict
from blemish.methods.catalogue import method_class
from blemish.training.learn.data import ImageItems, View
from blemish.training.learn.fit_data import Subset, sampling_weights
from blemish.training.learn.windows import (
    WindowLabelRule,
    Windows,
    label_tiles,
    label_window,
    label_windows,
    make_windows,
    subsample_good,
)
from blemish.training.ship.calibration_data import CalibrationData, class_thresholds
from blemish.training.train import train

VIEW = View(InputSpec(channels=1, height=32, width=32), None, Tiling(height=32, width=32, overlap=0.5))


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.tuples(st.integers(0, 50), st.integers(0, 50), st.integers(1, 30), st.integers(1, 30)), max_size=3),
    st.floats(0.01, 1),
    st.floats(0.01, 1),
)
def test_the_rule_by_counting_pixels(boxes, of_window, of_defect):
    rule = WindowLabelRule(min_window_share=of_window, min_defect_share=of_defect)
    size, tile = (60, 70), (16, 8, 48, 40)
    defects = []
    for i, (x, y, w, h) in enumerate(boxes):
        mask = np.zeros(size, bool)
        mask[y : y + h, x : x + w] = True
        defects.append((f"c{i % 2}", mask))
    inside = {(y, x) for y in range(8, 40) for x in range(16, 48)}
    pixels = [{tuple(p) for p in np.argwhere(mask)} for _, mask in defects]
    shares = {}
    counts = set()
    for (label, _), own in zip(defects, pixels, strict=True):
        shares[label] = shares.get(label, 0) + len(own & inside)
        if own & inside and len(own & inside) >= of_defect * len(own):
            counts.add(label)
    counts |= {label for label, n in shares.items() if n and n >= of_window * len(inside)}
    found = label_window(tile, defects, rule)
    if not any(shares.values()):
        assert found == GOOD
    elif not counts:
        assert found is None
    else:
        assert found in counts
        assert shares[found] == max(shares[label] for label in counts)


@pytest.fixture
def folder(tmp_path):
    """Two images of 96 x 96: one with a marked defect, by mask and by box; one good."""
    rng = np.random.default_rng(0)
    for name in ("bad", "good"):
        image = rng.integers(90, 110, (96, 96, 1)).astype(np.uint8)
        if name == "bad":
            image[10:22, 40:52] = 250
        write_image(tmp_path / f"{name}.png", image)
    mask = np.zeros((96, 96, 1), np.uint8)
    mask[10:22, 40:52] = 255
    write_image(tmp_path / "mask.png", mask)
    return tmp_path


def samples(folder):
    return (
        Sample(folder / "bad.png", "spot", mask=folder / "mask.png"),
        Sample(folder / "bad.png", None, boxes=(Box(40, 10, 52, 22, "spot"),)),
        Sample(folder / "good.png", GOOD),
        Sample(folder / "bad.png", "spot"),  # its location is unknown
    )


def test_masks_and_boxes_give_the_same_windows(folder):
    by_mask, by_box, good, _ = samples(folder)
    rule = WindowLabelRule(min_window_share=0.2, min_defect_share=0.6)
    expected = []
    for x0, y0, x1, y1 in tile_boxes(96, 96, 32, 32, 0.5):
        pixels = max(0, min(x1, 52) - max(x0, 40)) * max(0, min(y1, 22) - max(y0, 10))
        expected.append(GOOD if pixels == 0 else "spot" if pixels >= min(0.2 * 1024, 0.6 * 144) else None)
    assert set(expected) == {GOOD, "spot", None}
    assert label_windows(by_mask, VIEW, rule) == expected
    assert label_windows(by_box, VIEW, rule) == expected
    assert label_windows(good, VIEW, rule) == [GOOD] * len(expected)


def test_items_are_the_windows_without_unknown_ones(folder):
    data = Dataset(samples(folder), folder, "csv")
    cut = make_windows(data, VIEW, WindowLabelRule())
    items = ImageItems(cut.dataset, VIEW, (GOOD, "spot"), tiles=cut.tiles)
    assert len(items) == len(cut.tiles) == len(cut.dataset)
    for item, sample in zip(items, cut.dataset.samples, strict=True):
        assert item["label"] == (sample.label == "spot")
        assert (item["image"].max() > 0.9) == (
            sample.label == "spot"
        )  # only windows that contain it are labelled with it
    few = subsample_good(cut, WindowLabelRule(max_good_ratio=2), seed=0)
    labels = [sample.label for sample in few.dataset.samples]
    assert labels.count(GOOD) == 2 * labels.count("spot")
    assert subsample_good(cut, WindowLabelRule(max_good_ratio=0), seed=0) == cut
    assert isinstance(few, Windows)


def test_only_the_region_of_interest_is_cut_up(folder):
    view = View(VIEW.input, Roi(image_height=96, image_width=96, rectangle=(0, 40, 96, 96)), VIEW.tiling)
    labels = label_windows(samples(folder)[0], view, WindowLabelRule())
    assert labels == [GOOD] * len(tile_boxes(56, 96, 32, 32, 0.5))


def test_without_the_place_of_a_defect_there_is_nothing_to_learn(folder):
    data = Dataset(samples(folder)[2:], folder, "csv")
    with pytest.raises(DataError, match="masks or boxes"):
        make_windows(data, VIEW, WindowLabelRule())


def bright_or_dark():
    """P(bright) = mean grey above one half, P(dark) = that below, each times two; the rest is good."""
    nodes = [
        helper.make_node("ReduceMean", ["images"], ["mean"], axes=[2, 3], keepdims=0),
        helper.make_node("Sub", ["mean", "half"], ["over"]),
        helper.make_node("Relu", ["over"], ["above"]),
        helper.make_node("Neg", ["over"], ["under"]),
        helper.make_node("Relu", ["under"], ["below"]),
        helper.make_node("Mul", ["above", "two"], ["bright"]),
        helper.make_node("Mul", ["below", "two"], ["dark"]),
        helper.make_node("Add", ["bright", "dark"], ["bad"]),
        helper.make_node("Sub", ["one", "bad"], ["good"]),
        helper.make_node("Concat", ["good", "bright", "dark"], ["class_scores"], axis=1),
    ]
    constants = [("half", np.float32([0.5])), ("two", np.float32([2])), ("one", np.float32([1]))]
    return model(nodes, {"class_scores": ["n", 3]}, constants=constants)


def windows_bundle(folder, threshold, overlap):
    return make_bundle(
        folder / "w.blemish", bright_or_dark(), ["class_scores"],
        Decision(review=threshold, reject=threshold, map_high=threshold), classes=[GOOD, "bright", "dark"], side=16,
        tiling=Tiling(height=16, width=16, overlap=overlap), windows=True,
    )  # fmt: skip


def two_grades(bright, dark):
    """A grey image (64, 64) with a tile of P(bright) and another of P(dark)."""
    image = np.full((64, 64), 127.5, np.float32)
    image[:16, :16] += 127.5 * bright
    image[48:, 48:] -= 127.5 * dark
    return image.round().astype(np.uint8)


@pytest.mark.parametrize("batch_size", [1, 7])
def test_the_threshold_of_a_class_is_chosen_by_the_value_that_it_is_compared_with(tmp_path, batch_size):
    """Of each class the largest probability of any tile, even where another class is likelier in another tile."""
    path = windows_bundle(tmp_path, 0.99, 0.0)
    inspector = Inspector.open(path, batch_size=batch_size)
    data = CalibrationData()
    for i, (bright, dark, shown) in enumerate(
        [(0.1, 0.0, ()), (0.6, 0.0, ("bright",)), (0.6, 0.4, ("bright", "dark")), (0.7, 0.5, ("bright", "dark"))]
    ):
        result = inspector.inspect(two_grades(bright, dark))
        assert result.class_scores == pytest.approx({GOOD: 1 - bright, "bright": bright, "dark": dark}, abs=0.02)
        sample = Sample(f"{i}.png", labels=shown) if shown else Sample(f"{i}.png", GOOD)
        data.add(result, sample, ["class_scores"])
    chosen = class_thresholds(data.classes)
    assert chosen["dark"] == pytest.approx(0.2, abs=0.02)  # halfway between 0 and 0.4
    own = {"review": 0.99, "reject": 0.99, "class_thresholds": {"dark": chosen["dark"]}}
    changed = Inspector.open(
        replace_manifest(path, inspector.manifest.model_copy(update={"decision": Decision(**own)}))
    )
    assert changed.inspect(two_grades(0.6, 0.4)).verdict == Verdict.REJECT
    assert changed.inspect(two_grades(0.6, 0.1)).verdict == Verdict.PASS


@pytest.mark.parametrize("batch_size", [1, 7])
def test_windows_are_joined_into_a_map_of_classes_and_boxes(tmp_path, batch_size):
    path = windows_bundle(tmp_path, 0.5, 0.5)
    image = np.full((128, 160), 128, np.uint8)
    image[16:48, 32:64] = 255
    image[16:48, 64:96] = 0  # side by side: two regions, not one
    image[96:112, 128:144] = 255
    result = Inspector.open(path, batch_size=batch_size).inspect(image)
    assert result.verdict == Verdict.REJECT
    found = {(region.label, region.box[0] // 32, region.box[1] // 32) for region in result.regions}
    assert ("dark", 2, 0) in found
    boxes = {region.label: region.box for region in result.regions if region.box[1] < 64}
    np.testing.assert_allclose(boxes["bright"], (32, 16, 64, 48), atol=5)
    np.testing.assert_allclose(boxes["dark"], (64, 16, 96, 48), atol=5)
    far = [region for region in result.regions if region.box[1] > 64]
    assert [region.label for region in far] == ["bright"]
    # The map where just one window's weight counts: its corner of the image.
    corner = np.full((128, 160), 128, np.uint8)
    corner[:16, :16] = 200
    heat = Inspector.open(path).inspect(corner).heat_map
    assert heat[0, 0] == pytest.approx(2 * (200 / 255 - 0.5), abs=0.01)
    assert heat[60, 100] == pytest.approx(2 * (128 / 255 - 0.5), abs=0.01)


def test_from_marked_images_to_a_bundle_of_windows(tmp_path):
    """A small network learns bright and dark spots from windows, and finds them by class in whole images."""
    rng = np.random.default_rng(0)
    rows = ["image,label,mask,split"]
    for i in range(24):
        kind = ("good", "bright", "dark")[i % 3]
        image = rng.normal(128, 6, (96, 96))
        mask = np.zeros((96, 96), np.uint8)
        if kind != "good":
            x, y = rng.integers(8, 70, 2)
            mask[y : y + 16, x : x + 16] = 255
            image[mask > 0] = 230 if kind == "bright" else 25
        write_image(tmp_path / f"{i}.png", image.clip(0, 255).astype(np.uint8)[..., None])
        write_image(tmp_path / f"{i}m.png", mask[..., None])
        split = "test" if i >= 18 else "val" if i >= 12 else "train"
        rows.append(f"{i}.png,{kind},{'' if kind == 'good' else f'{i}m.png'},{split}")
    (tmp_path / "data.csv").write_text("\n".join(rows) + "\n")
    run = train(
        tmp_path / "data.csv", out=tmp_path / "run", method="classifier", channels=1, progress=False,
        trainer={"accelerator": "cpu"}, tiling={"height": 32, "width": 32, "overlap": 0.5},
        options={"backbone": "compact", "weights": "random", "image_size": 32, "epochs": 12, "batch_size": 16,
                 "learning_rate": 3e-3},
    )  # fmt: skip
    inspector = Inspector.open(run)
    assert inspector.manifest.windows
    test = read_dataset(tmp_path / "data.csv").split("test")
    metrics = evaluate(inspector, test, speed=False).to_dict()
    assert metrics["image"]["auroc"]["value"] == 1
    assert metrics["pixel"]["auroc"] > 0.9
    for sample, result in zip(test.samples, inspector.inspect(test.samples), strict=True):
        assert {region.label for region in result.regions} <= {sample.label}
        assert bool(result.regions) == (sample.label != GOOD)


@pytest.mark.parametrize("truth", ["mask", "boxes"])
def test_tiles_are_sampled_by_their_defects(tmp_path, truth):
    """Two large images, one with a small defect: half of the sampled tiles contain it."""
    mask = np.zeros((128, 160, 1), np.uint8)
    mask[70:76, 40:50] = 255
    write_image(tmp_path / "mask.png", mask)
    for name in "ab":
        write_image(tmp_path / f"{name}.png", np.zeros((128, 160, 1), np.uint8))
    own = {"mask": tmp_path / "mask.png"} if truth == "mask" else {"boxes": (Box(40, 70, 50, 76, "pit"),)}
    dataset = Dataset((Sample(tmp_path / "a.png", "pit", **own), Sample(tmp_path / "b.png", GOOD)), tmp_path, "csv")
    places = tile_boxes(128, 160, 32, 32, 0.5)
    touched = [x0 < 50 and x1 > 40 and y0 < 76 and y1 > 70 for x0, y0, x1, y1 in places]
    shown = touched + [False] * len(places)
    assert len(ImageItems(dataset, VIEW, (GOOD, "pit"))) == len(shown)
    tiles = label_tiles(dataset, VIEW)
    assert [s.defective for s in tiles.samples] == shown
    unet = method_class("unet")
    method = unet(unet.Options(image_size=32, backbone="plain"), (GOOD, "pit"))
    weights = np.array(sampling_weights(method, Subset(dataset), VIEW))
    assert weights[shown].sum() == pytest.approx(0.5 * weights.sum())
    untold = Dataset((Sample(tmp_path / "a.png", "pit"),), tmp_path, "csv")
    assert [s.label for s in label_tiles(untold, VIEW).samples] == ["pit"] * len(places)


def test_a_tile_has_the_classes_of_its_own_defects(tmp_path):
    """Of images of two defects: each tile against its pixels, and the correction against the tiles as sampled."""
    write_image(tmp_path / "i.png", np.zeros((64, 64, 1), np.uint8))
    write_image(tmp_path / "dead.png", np.full((64, 64, 1), 255, np.uint8) * (np.arange(64) < 60)[None, :, None])
    values = np.zeros((64, 64, 1), np.uint8)
    values[2:9, 3:30] = 1
    values[20:28, 40:50] = values[5:10, 20:24] = 2
    values[40:44, 61:64] = 1  # outside the region of interest
    write_image(tmp_path / "v.png", values)
    write_image(tmp_path / "m.png", 255 * (values > 0).astype(np.uint8))
    named = Sample(tmp_path / "i.png", "pit", mask=tmp_path / "v.png", mask_classes=("pit", "dent"))
    samples = [
        replace(named, roi=tmp_path / "dead.png"),
        replace(named, label="dent"),
        replace(named, mask=None, mask_classes=None),  # its class is known, but not where
        replace(named, mask=None, mask_classes=None, label=None, boxes=(Box(3, 2, 30, 9, "pit"),)),
        Sample(tmp_path / "i.png", GOOD),
        Sample(tmp_path / "i.png", mask=tmp_path / "m.png", labels=("pit", "dent")),
    ]
    samples = [replace(s, image=tmp_path / f"{i}.png") for i, s in enumerate(samples)]
    for s in samples:
        shutil.copy(tmp_path / "i.png", s.image)
    dataset, classes = Dataset(tuple(samples), tmp_path, "csv"), (GOOD, "dent", "pit")
    view = replace(VIEW, tiling=Tiling(height=16, width=16, overlap=0.0))
    items = ImageItems(dataset, view, classes, annotations=("label", "mask"))
    labels = []
    for (number, tile), item in zip(items.index, items, strict=True):
        y, x = 16 * (tile // 4), 16 * (tile % 4)
        shown = values[y : y + 16, x : x + 16, 0].copy()
        shown[:, max(0, 60 - x) :] *= number != 0
        names = {("pit", "dent")[v - 1] for v in np.unique(shown) if v}
        if number == 4:
            names = set()
        known = number in (0, 1, 4) or (number == 5 and not names)
        expected = classes.index((*names, GOOD)[0]) if known and len(names) < 2 else -1
        assert (item["label"], item["has_label"]) == (expected, known)
        assert not known or item["present"].tolist() == ["dent" in names, "pit" in names]
        labels.append(expected)
    multitask = method_class("multitask")
    options = {"image_size": 32, "backbone": "test_resnet", "weights": "random", "width": 4, "frozen_stride": 0}
    method = multitask(multitask.Options(**options), classes)
    single = dataset.with_samples(s for i, s in enumerate(samples) if i in (1, 2, 3, 4))
    weights = np.array(sampling_weights(method, Subset(single), view))
    labels = np.array([label for (number, _), label in zip(items.index, labels, strict=True) if number in (1, 2, 3, 4)])
    # A tile of both classes is counted as one of that with more pixels, though it has no label.
    labels[np.flatnonzero(labels[:16] < 0)] = classes.index("pit")
    share = np.array([(labels == k).sum() for k in range(3)]) / (labels >= 0).sum()
    sampled = np.array([weights[labels == k].sum() for k in range(3)]) / weights[labels >= 0].sum()
    np.testing.assert_allclose(method.prior_correction.numpy(), np.log(share / sampled), atol=1e-5)
    assert sampling_weights(method, Subset(single), view, real=False) == weights.tolist()
