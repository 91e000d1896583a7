"""`blemish augment`: the written images read back and agree with the lines about their defects."""

import json
from dataclasses import replace
from itertools import product

import cv2
import numpy as np
import pytest
from graphs import anomaly_bundle
from typer.testing import CliRunner

from blemish.cli import build_app
from blemish.dataset.ground_truth import read_class_masks
from blemish.dataset.read import read_dataset
from blemish.dataset.sample import Dataset, Sample
from blemish.dataset.split import ensure_splits
from blemish.errors import DataError, ImageError, OptionError
from blemish.imaging.prepare import to_unit
from blemish.imaging.read import read_image, write_image
from blemish.imaging.roi import Roi
from blemish.synthesis import augmented_set
from blemish.synthesis.apply import apply
from blemish.synthesis.augmented_set import write_augmented
from blemish.synthesis.cutouts import cut_defects
from blemish.synthesis.defect_spec import parse_defect_spec, read_defect_spec

SPEC = parse_defect_spec(
    {"steps": [{"kind": "scratch"}, {"kind": "pit", "p": 0.7}, {"kind": "paste"}], "visible": 0.01}
)


@pytest.fixture(scope="module")
def written(tiny_data, tmp_path_factory):
    out = tmp_path_factory.mktemp("made") / "out"
    data = read_dataset(tiny_data.folder / "labelled.csv")
    return write_augmented(data, out, SPEC, 6, seed=2), out, data


def test_reads_back_with_labels_masks_and_split(written):
    _, out, _ = written
    data = read_dataset(out / "dataset.csv")
    assert len(data) == 6
    assert {s.split for s in data.samples} == {"train"}
    assert all(s.label in ("scratch", "pit") for s in data.samples)
    lines = [json.loads(line) for line in (out / "defects.jsonl").read_text().splitlines()]
    for sample in data.samples:
        own = [line for line in lines if line["image"] == sample.image.relative_to(out).as_posix()]
        assert own
        image = read_image(sample.image)
        layers = read_class_masks(sample, ("pit", "scratch"), image.shape[:2])
        for name, layer in zip(("pit", "scratch"), layers, strict=True):
            assert layer.sum() == sum(line["area_px"] for line in own if line["class"] == name)


def test_every_image_can_be_made_again_from_its_line(written):
    _, out, data = written
    spec = read_defect_spec(out / "spec.yaml")
    line = json.loads((out / "defects.jsonl").read_text().splitlines()[0])
    cuts = cut_defects(s for s in data.samples if s.split == "train")
    scene = apply(spec, to_unit(read_image(line["surface"])), tuple(line["image_seed"]), cuts=cuts)
    np.testing.assert_array_equal(np.round(scene.image * 255).astype(np.uint8), read_image(out / line["image"]))
    assert list(scene.defects[0].seed) == line["seed"]


def test_surfaces_and_pasted_defects_come_from_training_images_only(written):
    _, out, data = written
    training = {str(s.image) for s in data.samples if s.split == "train"}
    for line in (out / "defects.jsonl").read_text().splitlines():
        found = json.loads(line)
        assert found["surface"] in training
        assert found.get("from", found["surface"]) in training


def test_the_list_names_the_sources_of_each_image(written):
    _, out, _ = written
    lines = [json.loads(line) for line in (out / "defects.jsonl").read_text().splitlines()]
    for sample in read_dataset(out / "dataset.csv").samples:
        own = [line for line in lines if line["image"] == sample.image.relative_to(out).as_posix()]
        expected = {line["surface"] for line in own} | {line["from"] for line in own if "from" in line}
        assert {str(path) for path in sample.sources} == expected
    assert any(len(sample.sources) > 1 for sample in read_dataset(out / "dataset.csv").samples)


def test_data_without_splits_are_split_before_images_are_taken_from_them(tiny_data, tmp_path):
    data = read_dataset(tiny_data.folder / "labelled.csv")
    bare = data.with_samples(replace(s, split=None) for s in data.samples)
    write_augmented(bare, tmp_path / "out", SPEC, 4, include=True)
    found = read_dataset(tmp_path / "out" / "dataset.csv")
    real = [s for s in found.samples if s.sources is None]
    assert {s.image for s in real} == {s.image for s in data.samples}
    assert {(s.split, bool(s.defective)) for s in real} == set(product(("train", "val", "test"), (False, True)))
    lending = {path for s in found.samples for path in s.sources or ()}
    assert lending <= {s.image for s in real if s.split == "train"}
    assert ensure_splits(found, seed=5) == found.with_samples([*real, *found.samples[:4]])


def test_synthetic_images_are_not_evaluated(tiny_data, tmp_path, caplog):
    from blemish.cli.evaluate import read_subset

    write_augmented(read_dataset(tiny_data.folder / "labelled.csv"), tmp_path / "out", SPEC, 4, include=True)
    listed = tmp_path / "out" / "dataset.csv"
    real = read_dataset(listed).where(lambda s: s.sources is None).split("test")
    listed.write_text(listed.read_text().replace(",train,", ",test,"))
    assert read_dataset(listed).where(lambda s: s.sources is not None).split("test")
    found = read_subset(str(listed), None, None, "csv", anomaly_bundle(tmp_path / "any.blemish"))
    assert {s.image for s in real.samples} < {s.image for s in found.samples}
    assert all(s.sources is None for s in found.samples)
    assert "4 synthetic images" in caplog.text


def test_defects_lie_in_the_region_of_interest(tiny_data, tmp_path):
    data = read_dataset(tiny_data.folder / "labelled.csv")
    roi = Roi(image_height=64, image_width=64, rectangle=(8, 0, 64, 40))
    made = write_augmented(data, tmp_path / "out", parse_defect_spec([{"kind": "pit", "count": [3, 3]}]), 6, roi=roi)
    masks = np.stack([read_image(s.mask)[..., 0] for s in made.dataset.samples])
    assert masks.any(axis=(1, 2)).all()
    assert not masks[:, 40:].any()
    assert not masks[:, :, :8].any()
    with pytest.raises(ImageError, match=r"good.*\.png: "):
        write_augmented(data, tmp_path / "none", SPEC, 1, roi=Roi(blob={"level": 1.0}))


@pytest.mark.parametrize("moved", [False, True])
def test_group_product_template_and_valid_pixels_of_the_surface_are_kept(moved, tmp_path):
    rng = np.random.default_rng(0)
    roi = np.zeros((64, 64, 1), np.uint8)
    roi[12:52, 10:44] = 255
    write_image(tmp_path / "roi.png", roi)
    for name in ("a", "b"):  # bright where it counts and black elsewhere
        write_image(tmp_path / f"{name}.png", (rng.integers(150, 200, (64, 64, 1)) * (roi > 0)).astype(np.uint8))
    changes = {"roi": tmp_path / "roi.png", "product": "plate", "template": tmp_path / "b.png", "group": "lot 7"}
    data = Dataset((Sample(tmp_path / "a.png", "good", "train", **changes),), tmp_path, "csv")
    steps = [{"kind": "pit", "strength": [0.2, 0.3]}, *([{"kind": "affine", "shift": (-0.2, 0.2)}] if moved else [])]
    spec = parse_defect_spec({"steps": steps, "part": "whole"})
    write_augmented(data, tmp_path / "out", spec, 6)
    for sample in read_dataset(tmp_path / "out" / "dataset.csv").samples:
        assert (sample.product, sample.group) == ("plate", "lot 7")
        assert sample.template == (None if moved else changes["template"])
        counts = read_image(sample.roi)[..., 0] > 0
        assert (counts != (roi[..., 0] > 0)).any() == moved
        inner = cv2.erode(counts.astype(np.uint8), np.ones((3, 3), np.uint8), borderValue=0) > 0
        assert inner.sum() > 300
        assert read_image(sample.image)[..., 0][inner].min() > 75


def test_command_writes_a_set_to_train_on_and_a_contact_sheet(tiny_data, tmp_path):
    spec = tmp_path / "spec.yaml"
    spec.write_text("[{kind: scratch}]")
    args = ["augment", str(tiny_data.folder / "labelled.csv"), str(tmp_path / "out"), "--spec", str(spec)]
    result = CliRunner().invoke(build_app(), [*args, "--count", "5", "--include-data"])
    assert result.exit_code == 0, result.output
    assert f"next: blemish train {tmp_path / 'out' / 'dataset.csv'}" in result.output
    assert len(read_dataset(tmp_path / "out" / "dataset.csv")) == 5 + len(
        read_dataset(tiny_data.folder / "labelled.csv")
    )
    sheet = cv2.imread(str(tmp_path / "out" / "contact-sheet.png"))
    assert sheet.shape[1] == 4 * (2 * 224 + 6)
    assert sheet.std() > 10
    args[2], drawn = str(tmp_path / "drawn"), str(tiny_data.folder / "labelled.csv")
    result = CliRunner().invoke(build_app(), [*args, "--count", "1"])
    assert "contains no good images" in result.output
    assert f"next: blemish train {drawn} --method unet --synthetic {spec}" in result.output


def test_same_seed_writes_the_same_files(written, tmp_path):
    _, out, data = written
    write_augmented(data, tmp_path / "again", SPEC, 2, seed=2)
    for name in ("images/00000.png", "masks/00001.png"):
        assert (tmp_path / "again" / name).read_bytes() == (out / name).read_bytes()


def test_bad_requests_are_one_line(written, tiny_data, tmp_path):
    _, out, data = written
    with pytest.raises(DataError, match="not empty"):
        write_augmented(data, out, SPEC, 1)
    with pytest.raises(DataError, match="is a file"):
        write_augmented(data, out / "spec.yaml", SPEC, 1)
    defective = data.where(lambda s: bool(s.defective))
    with pytest.raises(DataError, match="no good training"):
        write_augmented(defective, tmp_path / "a", SPEC, 1)
    good = data.where(lambda s: s.defective is False)
    with pytest.raises(DataError, match="pastes real defects"):
        write_augmented(good, tmp_path / "b", SPEC, 1)
    with pytest.raises(OptionError, match="pastes defects of hole, but no training image has a mask of one"):
        write_augmented(data, tmp_path / "c", parse_defect_spec([{"kind": "paste", "classes": ["hole"]}]), 1)
    with pytest.raises(OptionError, match="makes no defect"):
        write_augmented(good, tmp_path / "c", parse_defect_spec([{"kind": "blur"}]), 1)
    hopeless = parse_defect_spec([{"kind": "stain", "p": 0.0}])
    with pytest.raises(DataError, match="attempts"):
        write_augmented(good, tmp_path / "c", hopeless, 1)
    pictures = parse_defect_spec(
        [{"kind": "scratch"}, {"kind": "overlay", "texture": str(tmp_path / "pictures"), "p": 0.0}]
    )
    with pytest.raises(OptionError, match="folder that holds pictures"):
        write_augmented(good, tmp_path / "d", pictures, 1)
    assert not list(tmp_path.iterdir())  # nothing stands in the way of the next attempt


def test_images_made_before_a_failure_are_kept(tiny_data, tmp_path, monkeypatch):
    monkeypatch.setattr(augmented_set, "ATTEMPTS", 1)
    rare = parse_defect_spec([{"kind": "scratch", "p": 0.3}])
    for seed in range(20):
        data = read_dataset(tiny_data.folder / "mvtec")
        try:
            made = write_augmented(data, tmp_path / str(seed), rare, 50, seed)
        except DataError:
            continue
        break
    number = sum(made.counts.values())
    assert 0 < number < 50
    assert "attempts at a defect" in made.stopped
    again = read_dataset(tmp_path / str(seed) / "dataset.csv")
    assert len(again) == number
    assert all(s.defective and s.mask.is_file() for s in again.samples)


RANGES = {
    "fourteen of sixteen bits": lambda s: np.round(s * 16383).astype(np.uint16),
    "twelve of sixteen bits": lambda s: np.round(s * 4095).astype(np.uint16),
    "heights about 0": lambda s: ((s - 0.5) * 0.004).astype(np.float32),
    "wide whole numbers": lambda s: np.round(s * 100_000 + 20_000).astype(np.float32),
}


@pytest.mark.parametrize("name", RANGES)
def test_defects_are_as_strong_as_the_range_of_values_is_wide(tmp_path, name):
    """Defects change what their mask covers, visibly, and nothing else; no value leaves the range of the data."""
    for i in range(3):
        surface = np.clip(np.random.default_rng(i).normal(0.5, 0.08, (96, 96, 1)), 0.05, 0.95)
        write_image(tmp_path / f"data/good/{i}.tif", RANGES[name](surface))
        write_image(tmp_path / f"data/bad/{i}.tif", RANGES[name](surface))
    spec = parse_defect_spec({"steps": [{"kind": "pit"}], "visible": 0.03})
    made = write_augmented(read_dataset(tmp_path / "data"), tmp_path / "out", spec, 4).dataset
    assert len(made) == 4
    full = np.ptp(RANGES[name](np.array([0.0, 1.0])).astype(np.float64))
    for sample in made.samples:
        before, after = (read_image(path).astype(np.float64) for path in (sample.sources[0], sample.image))
        assert read_image(sample.image).dtype == read_image(sample.sources[0]).dtype
        mask = read_class_masks(sample, made.defect_classes, before.shape[:2]).any(axis=0)
        changed = np.abs(after - before)[..., 0] / full
        assert changed[mask].mean() > 0.02
        assert np.percentile(changed[~mask], 90) < 1e-3
        assert abs(after.mean() - before.mean()) < full
        assert after.max() <= before.max() + full / 2
        assert after.min() >= before.min() - full / 2
