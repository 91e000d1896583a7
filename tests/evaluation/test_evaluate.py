"""A bundle of known behaviour evaluated on synthetic images: the metrics are known in advance."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import typer
from graphs import anomaly_bundle, fixed_boxes, grey_classes, make_bundle, two_masks
from typer.testing import CliRunner

from blemish.cli.evaluate import evaluate as evaluate_command
from blemish.dataset.read import read_dataset
from blemish.dataset.sample import Dataset, Sample
from blemish.errors import DataError
from blemish.evaluation.defect_types import metrics_by_type
from blemish.evaluation.evaluate import evaluate
from blemish.evaluation.predictions import make_prediction
from blemish.files import file_sha256
from blemish.geometry import Box, Polygon
from blemish.imaging.read import write_image
from blemish.imaging.roi import Roi
from blemish.inspection.inspector import Inspector
from blemish.inspection.manifest import Decision
from blemish.inspection.seen_images import SEEN, pack_seen

# Peak of the image, annotation: the bundle reviews from 0.5 and rejects from 0.6.
PARTS = [("good", 0.1), ("good", 0.55), ("good", 0.7), ("pit", 0.3), ("pit", 0.8), ("stain", 0.57), ("stain", 0.9)]


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    """In the MVTec layout: a bright square in each image, which is annotated where the part is defective."""
    root = tmp_path_factory.mktemp("parts")
    for number, (label, peak) in enumerate(PARTS):
        image = np.full((64, 64, 1), 10, np.uint8)
        image[16:32, 16:32] = round(255 * peak)
        write(root / "test" / label / f"{number}.png", image)
        if label != "good":
            write(root / "ground_truth" / label / f"{number}_mask.png", (image > 10).astype(np.uint8) * 255)
    for number in range(3):
        write(root / "train" / "good" / f"{number}.png", np.full((64, 64, 1), 10, np.uint8))
    return root


def write(path: Path, image) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    write_image(path, image)


@pytest.fixture(scope="module")
def grey(tmp_path_factory) -> Path:
    return anomaly_bundle(tmp_path_factory.mktemp("grey") / "grey.blemish", side=64)


@pytest.fixture
def parts(folder) -> Dataset:
    return read_dataset(folder).split("test")


def test_known_metrics(grey, parts):
    shown = []
    result = evaluate(Inspector.open(grey), parts, on_inspection=lambda sample, actual: shown.append((sample, actual)))
    actual = json.loads(json.dumps(result.to_dict(), allow_nan=False))
    assert [sample for sample, _ in shown] == list(parts.samples)
    assert (actual["image"]["escape_rate"]["value"], actual["image"]["escape_rate"]["n"]) == (0.25, 4)
    assert actual["image"]["overkill_rate"]["value"] == pytest.approx(1 / 3)
    assert actual["image"]["review_rate"]["value"] == pytest.approx(2 / 7)
    assert actual["image"]["auroc"]["value"] == pytest.approx(9 / 12)
    assert actual["pixel"]["images"] == 7
    assert actual["pixel"]["iou"] == pytest.approx(3 * 256 / (4 * 256 + 2 * 256))  # pixels from 0.5 up
    assert actual["masks"]["iou"] == actual["pixel"]["iou"]
    assert actual["masks"]["defects_found"]["value"] == 0.75
    assert set(actual) == {"image", "pixel", "masks", "sizes", "geometry", "speed", "bundle", "data"}
    assert actual["sizes"] == [{"low": 16, "high": 32, "found": actual["masks"]["defects_found"]}]  # squares of 16 px
    assert {"images_per_second", "latency_ms", "network_ms", "decode_ms", "peak_memory_mb"} <= set(actual["speed"])
    assert actual["speed"]["latency_ms"]["median"] <= actual["speed"]["latency_ms"]["p95"]
    assert actual["data"] | {"sha256": "", "root": ""} == {
        "root": "", "format": "mvtec", "images": 7, "good": 3, "defective": 4,
        "good_parts": 3, "defective_parts": 4, "unknown": 0,
        "without_pixel_annotation": 0, "unreadable": [], "sha256": "", "warnings": [],
    }  # fmt: skip


def test_unreadable_files_are_counted_and_left_out(grey, parts, tmp_path):
    (tmp_path / "cut.png").write_bytes(parts.samples[0].image.read_bytes()[:60])
    write(tmp_path / "small.png", np.zeros((5, 5, 1), np.uint8))
    write(tmp_path / "empty.png", np.zeros((64, 64, 1), np.uint8))
    image = next(sample.image for sample in parts.samples if sample.label == "stain")
    odd = [
        Sample(tmp_path / "cut.png", "good"),
        Sample(image, "stain", mask=tmp_path / "small.png"),  # a mask of another size: pixels are not annotated
        Sample(image, "stain", mask=tmp_path / "empty.png"),  # nor from an empty mask of a defective image
        Sample(image),
    ]
    before = evaluate(Inspector.open(grey), parts, speed=False).to_dict()
    actual = evaluate(Inspector.open(grey), parts.with_samples([*odd, *parts.samples])).to_dict()
    assert [line for line in actual["data"]["unreadable"] if "cut.png" in line or "small.png" in line] == (
        actual["data"]["unreadable"]
    )
    assert len(actual["data"]["unreadable"]) == 2
    assert (actual["data"]["images"], actual["data"]["unknown"], actual["data"]["without_pixel_annotation"]) == (
        10,
        1,
        3,
    )
    assert actual["pixel"] == before["pixel"]
    assert (actual["data"]["defective"], actual["image"]["escape_rate"]["n"]) == (6, 4)  # three lines of one image
    with pytest.raises(DataError, match=r"none of the 1 images could be inspected: .*cut\.png"):
        evaluate(Inspector.open(grey), parts.with_samples(odd[:1]))


def test_images_that_the_bundle_has_seen_are_said(parts, tmp_path, recwarn):
    hashes = dict(zip((file_sha256(s.image)[:16] for s in parts.samples), ["train", "val", "train"], strict=False))
    bundle = anomaly_bundle(tmp_path / "grey.blemish", side=64, extra={SEEN: pack_seen(hashes)})
    with pytest.warns(UserWarning, match="trained, tuned or calibrated on 3 of the 7 images"):
        result = evaluate(Inspector.open(bundle), parts, speed=False)
    assert result.data["seen"] == {"train": 2, "tuning": 0, "val": 1}
    recwarn.clear()
    evaluate(Inspector.open(bundle), parts.with_samples(parts.samples[3:]), speed=False)
    assert not [warning for warning in recwarn if "trained" in str(warning.message)]


def test_that_near_duplicates_are_not_looked_for_is_said(grey, parts, monkeypatch):
    monkeypatch.setattr("blemish.evaluation.evaluate.MAX_NEAR_IMAGES", 6)
    with pytest.warns(UserWarning, match="not looked for among 7 images, more than 6"):
        result = evaluate(Inspector.open(grey), parts, speed=False)
    assert any("not looked for among 7 images" in line for line in result.data["warnings"])


@pytest.mark.filterwarnings("ignore:.* parts?, by groups and copies")
def test_shots_of_one_part_and_copies_count_once(grey, parts, tmp_path):
    """Each image six times as a file of its own, and the good ones of one group."""
    samples = []
    for number, s in enumerate(parts.samples):
        for copy in range(6):
            image = tmp_path / f"{number}_{copy}.png"
            image.write_bytes(s.image.read_bytes())
            samples.append(Sample(image, s.label, mask=s.mask, group="a" if s.label == "good" else None))
    alone = evaluate(Inspector.open(grey), parts, speed=False).to_dict()
    seen = []
    with pytest.warns(UserWarning, match="18 good images of only 1 part, by groups and copies"):
        many = evaluate(Inspector.open(grey), parts.with_samples(samples), speed=False, on_evaluated=seen.append)
    many = many.to_dict()
    assert (many["data"]["good"], many["data"]["good_parts"]) == (18, 1)
    assert (many["data"]["defective"], many["data"]["defective_parts"]) == (24, 4)
    assert many["image"]["escape_rate"] == pytest.approx(alone["image"]["escape_rate"])
    assert many["image"]["proof"] == alone["image"]["proof"]
    assert many["masks"]["defects_found"] == pytest.approx(alone["masks"]["defects_found"])
    assert (many["image"]["overkill_rate"]["n"], many["image"]["auroc"]["n"]) == (1, 5)
    assert many["image"]["overkill_rate"]["high"] == 1
    assert len({make_prediction(image).group for image in seen}) == 5
    assert metrics_by_type(seen)["pit"].auroc.n == 3


def test_invalid_pixels_are_left_out(folder, grey, tmp_path, parts):
    only_half = anomaly_bundle(
        tmp_path / "half.blemish", side=64, roi=Roi(image_height=64, image_width=64, rectangle=(0, 0, 24, 64))
    )
    ignore = np.zeros((64, 64, 1), np.uint8)
    ignore[:, 24:] = 255
    write(tmp_path / "ignore.png", ignore)
    masked = [Sample(s.image, s.label, mask=s.mask, ignore=tmp_path / "ignore.png") for s in parts.samples]
    by_mask = evaluate(Inspector.open(grey), parts.with_samples(masked), speed=False).metrics
    by_roi = evaluate(Inspector.open(only_half), parts, speed=False).metrics
    assert by_mask.masks.defects_found.n == by_roi.masks.defects_found.n == 4
    for measured in (by_mask, by_roi):  # half of each square is left
        assert measured.pixel.iou == pytest.approx(3 * 128 / (4 * 128 + 2 * 128), abs=0.02)
    assert by_mask.image.escape_rate == by_roi.image.escape_rate


def test_each_product_has_its_own_metrics(grey, parts):
    halves = [Sample(s.image, s.label, mask=s.mask, product="ab"[i % 2]) for i, s in enumerate(parts.samples)]
    actual = evaluate(Inspector.open(grey), parts.with_samples(halves), speed=False).to_dict()
    assert set(actual["products"]) == {"a", "b"}
    for index, name in enumerate("ab"):
        alone = evaluate(Inspector.open(grey), parts.with_samples(parts.samples[index::2]), speed=False).to_dict()
        assert actual["products"][name] == {key: alone[key] for key in ("image", "pixel", "masks", "sizes", "geometry")}
    one = evaluate(Inspector.open(grey), parts.with_samples(halves[::2]), speed=False).to_dict()
    assert "products" not in one


def test_classes_of_a_bundle_with_classes(tmp_path, parts):
    bundle = make_bundle(
        tmp_path / "c.blemish", grey_classes(), ["class_scores"], Decision(review=0.5, reject=0.6),
        classes=["good", "pit", "stain"],
    )  # fmt: skip
    actual = evaluate(Inspector.open(bundle), parts, speed=False).to_dict()
    assert set(actual) == {"image", "classes", "bundle", "data"}  # no map, so nothing of pixels
    # The bundle says "pit" from half brightness on: one of two pits, no stain, one of three good parts.
    assert actual["classes"]["confusion"] == [[1, 2, 0], [1, 1, 0], [0, 2, 0]]
    assert actual["classes"]["accuracy"]["value"] == pytest.approx(2 / 7)
    assert actual["classes"]["recall"]["stain"]["value"] == 0
    assert "stain" not in actual["classes"]["precision"]  # it was never called


class TestCommand:
    @pytest.fixture
    def run(self):
        app = typer.Typer()
        app.command()(evaluate_command)

        def run(*arguments):
            return CliRunner().invoke(app, [str(a) for a in arguments])

        return run

    def test_json_on_stdout_is_nothing_but_json(self, run, grey, folder):
        result = run(grey, folder, "--json", "-")
        assert result.exit_code == 0
        assert json.loads(result.stdout)["data"]["images"] == 7

    def test_table_and_file(self, run, grey, folder, tmp_path):
        result = run(grey, folder, "--json", tmp_path / "new" / "m.json", "--no-speed")
        assert "escape rate" in result.stdout
        assert "AUPRO" in result.stdout
        assert "speed" not in json.loads((tmp_path / "new" / "m.json").read_text())

    def test_splits(self, run, grey, folder, parts, tmp_path):
        assert (
            json.loads(run(grey, folder, "--split", "train", "--no-speed", "--json", "-").stdout)["data"]["good"] == 3
        )
        missing = run(grey, folder, "--split", "val")
        assert isinstance(missing.exception, DataError)
        assert "no images in the split 'val'; it has test, train" in str(missing.exception)
        (tmp_path / "list.csv").write_text("image,label\n" + "".join(f"{s.image},{s.label}\n" for s in parts.samples))
        whole = run(grey, tmp_path / "list.csv", "--no-speed", "--json", "-")
        assert json.loads(whole.stdout)["data"]["images"] == 7

    def test_training_images_are_not_evaluated(self, run, grey, parts, tmp_path, caplog):
        caplog.set_level("INFO", "blemish")
        (tmp_path / "list.csv").write_text("image,label\n" + "".join(f"{s.image},{s.label}\n" for s in parts.samples))
        (tmp_path / "run").mkdir()
        bundle = tmp_path / "run" / "grey.blemish"
        bundle.write_bytes(grey.read_bytes())
        splits = ["train", "val", "test", "train", "test", "val"]  # the last image is not in the run's list
        rows = zip(parts.samples, splits, strict=False)
        (tmp_path / "run" / "split.csv").write_text("image,split\n" + "".join(f"{s.image},{w}\n" for s, w in rows))
        for place in (bundle, bundle.parent):
            result = run(place, tmp_path / "list.csv", "--no-speed", "--json", "-")
            assert json.loads(result.stdout)["data"]["images"] == 3
        assert "no splits" in caplog.text

    def test_a_list_of_the_run_that_was_cut_is_refused(self, run, grey, parts, tmp_path):
        """The images that it lost would be taken for test images."""
        (tmp_path / "list.csv").write_text("image,label\n" + "".join(f"{s.image},{s.label}\n" for s in parts.samples))
        (tmp_path / "run").mkdir()
        (tmp_path / "run" / "grey.blemish").write_bytes(grey.read_bytes())
        listed = tmp_path / "run" / "split.csv"
        listed.write_text("image,split\n" + "".join(f"{s.image},train\n" for s in parts.samples[:3]))
        (tmp_path / "run" / "run.yaml").write_text(f"seed: 0\nsplit_sha256: {file_sha256(listed)}\n")
        run(tmp_path / "run", tmp_path / "list.csv", "--no-speed", "--json", "-")
        listed.write_bytes(listed.read_bytes()[:-20])
        refused = run(tmp_path / "run", tmp_path / "list.csv", "--no-speed", "--json", "-")
        assert "cut off, or was changed" in str(refused.exception)


def test_a_class_unknown_to_the_bundle_is_named(tmp_path, parts):
    bundle = make_bundle(
        tmp_path / "b.blemish", grey_classes(), ["class_scores"], Decision(reject=0.6), classes=["good", "pit", "dent"]
    )
    actual = evaluate(Inspector.open(bundle), parts, speed=False).to_dict()
    assert actual["data"]["unknown_classes"] == {"stain": 2}
    assert actual["classes"]["recall"]["stain"]["value"] == 0
    app = typer.Typer()
    app.command()(evaluate_command)
    said = CliRunner().invoke(app, [str(bundle), str(parts.root), "--split", "test", "--no-speed"])
    assert "class 'stain' (2 images) is unknown to the bundle" in said.output


def test_pixels_and_boxes_of_an_unknown_class_count_as_missed(tmp_path):
    """A perfect judge of a and b, and two images of c: c is named, and counts as a class of which nothing is found."""
    square = Polygon((((10, 10), (30, 10), (30, 30), (10, 30)),), "")
    decision, classes = Decision(review=0.5, reject=0.5, map_high=0.5, map_low=0.5), ["good", "a", "b"]
    masked, boxed = [], []
    for at, label in enumerate("abcc"):
        image = np.zeros((64, 64, 2), np.uint8)
        if label != "c":
            image[10:30, 10:30, "ab".index(label)] = 255
        write_image(tmp_path / f"{at}.tif", image)
        write_image(tmp_path / f"{at}.png", image[..., :1])
        masked.append(Sample(tmp_path / f"{at}.tif", label, shapes=(replace(square, label=label),)))
        boxed.append(Sample(tmp_path / f"{at}.png", label, boxes=(Box(10, 10, 30, 30, label),)))
    bundle = make_bundle(tmp_path / "m", two_masks(), ["mask_scores"], decision, classes=classes, channels=2)
    actual = evaluate(Inspector.open(bundle), Dataset(tuple(masked), tmp_path, "csv"), speed=False).to_dict()
    assert actual["data"]["unknown_classes"] == {"c": 2}
    assert {name: own["iou"] for name, own in actual["masks"]["per_class"].items()} == {"a": 1, "b": 1, "c": 0}
    assert actual["masks"]["miou"] == pytest.approx(2 / 3)
    graph = fixed_boxes([[10, 10, 30, 30]], [0.9], [0])
    bundle = make_bundle(tmp_path / "b", graph, ["boxes", "box_scores", "box_labels"], decision, classes=classes)
    inspector = Inspector.open(bundle, batch_size=1)
    actual = evaluate(inspector, Dataset(tuple(boxed), tmp_path, "csv"), speed=False).to_dict()
    assert actual["data"]["unknown_classes"] == {"c": 2}
    assert {name: own["map50"] for name, own in actual["boxes"]["per_class"].items()} == {"a": 1, "b": 0, "c": 0}
