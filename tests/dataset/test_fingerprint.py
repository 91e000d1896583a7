"""Fingerprints against what was drawn: alignment, kind, sizes of defects, counts, twins."""

from dataclasses import replace

import cv2
import numpy as np
import pytest

from blemish.dataset.fingerprint import alignment, fingerprint, image_kind
from blemish.dataset.read import read_dataset
from blemish.dataset.sample import Dataset, Sample
from blemish.errors import DataError
from blemish.training.advice.conditions import defect_side


def parts(count, shift):
    """A bright part with a mark on it on a plain ground, moved by up to `shift` px, in light of changing strength."""
    rng = np.random.default_rng(0)
    found = []
    for _ in range(count):
        image = np.full((48, 48), 40, np.float32)
        x, y = 24 + rng.integers(-shift, shift + 1, 2)
        cv2.circle(image, (int(x), int(y)), 12, 200, -1)
        cv2.rectangle(image, (int(x) - 5, int(y) - 2), (int(x) + 5, int(y) + 2), 60, -1)
        found.append(image * rng.uniform(0.7, 1.1) + rng.normal(0, 2, image.shape).astype(np.float32))
    return np.stack(found).astype(np.float32)


def textures(count):
    rng = np.random.default_rng(1)
    light = np.linspace(-40, 40, 48, dtype=np.float32)  # the same in all: no reason to call them aligned
    return np.stack([
        light + 128 + 300 * cv2.GaussianBlur(rng.normal(0, 0.3, (48, 48)), (0, 0), 1.5) for _ in range(count)
    ]).astype(np.float32)  # fmt: skip


def test_alignment_is_the_mean_over_all_pairs():
    from blemish.dataset.fingerprint import structure

    images = parts(6, 3)
    rows = structure(images).reshape(6, -1)
    expected = np.corrcoef(rows)[np.triu_indices(6, 1)].mean()
    assert alignment(images) == pytest.approx(expected, abs=1e-5)


def test_alignment_and_kind_of_what_was_drawn():
    assert alignment(parts(12, 0)) > 0.9
    assert alignment(parts(12, 8)) < 0.5
    assert abs(alignment(textures(12))) < 0.1
    assert image_kind(parts(12, 0)) == image_kind(parts(12, 5)) == "object"  # moved parts lie on plain ground
    assert image_kind(textures(12)) == "texture"
    assert alignment(np.zeros((3, 48, 48), np.float32)) == 0


def test_counts_and_sizes_of_the_tiny_set(tiny_data):
    found = fingerprint(read_dataset(tiny_data.folder / "mvtec"))
    assert (found.setting, found.good_training, found.defects_test, found.defective_training) == ("unknown", 13, 16, 0)
    assert (found.good_validation, found.splits_given) == (3, ("test", "train"))  # a fifth is held out
    assert (found.height, found.width, found.channels, found.bits) == (64, 64, 3, 8)
    # A pit is a disc of radius 6, about 11 px of side; a scratch is at most 40 px long and 3 wide.
    assert 5 < found.small_defect_side < found.defect_side < 12
    assert defect_side(found, 128) == pytest.approx(2 * found.small_defect_side)
    assert found.kind == "texture"
    assert found.near_duplicates == 0
    labelled = fingerprint(read_dataset(tiny_data.folder / "labelled.csv"))
    assert labelled.setting == "few"
    assert labelled.defects_training == {"pit": 6, "scratch": 6}
    assert labelled.rarest == 6
    assert labelled.good_validation == 5


def test_twins_are_counted_across_splits(tiny_data, tmp_path):
    image = cv2.imread(str(tiny_data.folder / "mvtec" / "train" / "good" / "000.png"))
    lines = ["image,label,split"]
    for split in ("train", "test"):
        cv2.imwrite(str(tmp_path / f"{split}.png"), image)
        lines.append(f"{split}.png,good,{split}")
    (tmp_path / "twins.csv").write_text("\n".join(lines))
    found = fingerprint(read_dataset(tmp_path / "twins.csv"))
    assert (found.near_duplicates, found.duplicates_across_splits) == (1, 1)
    assert found.defect_side is None
    assert defect_side(found, 256) is None


def test_test_images_have_no_say_in_alignment_and_kind(tmp_path):
    lines = ["image,label,split"]
    for split, images in (("train", parts(6, 0)), ("val", textures(6)), ("test", textures(12))):
        for i, image in enumerate(images):
            cv2.imwrite(str(tmp_path / f"{split}{i}.png"), image.clip(0, 255))
            lines.append(f"{split}{i}.png,good,{split}")
    (tmp_path / "data.csv").write_text("\n".join(lines))
    found = fingerprint(read_dataset(tmp_path / "data.csv"))
    assert found.alignment > 0.9
    assert found.kind == "object"


def test_classes_of_several_labels_and_of_class_masks_are_counted(tmp_path):
    mask = np.zeros((32, 32), np.uint8)
    mask[4:8, 4:8] = 2
    cv2.imwrite(str(tmp_path / "mask.png"), mask)
    for i in range(5):
        cv2.imwrite(str(tmp_path / f"{i}.png"), np.random.default_rng(i).integers(0, 255, (32, 32), np.uint8))
    places = [tmp_path / f"{i}.png" for i in range(5)]
    samples = (
        Sample(places[0], "good", "train"),
        Sample(places[1], "good", "val"),
        Sample(places[2], None, "train", labels=("crack", "dent")),
        Sample(places[3], "dent", "train"),
        Sample(places[4], None, "train", mask=tmp_path / "mask.png", mask_classes=("crack", "stain")),
    )
    found = fingerprint(Dataset(samples, tmp_path, "csv"))
    assert found.defects_training == {"crack": 1, "dent": 2, "stain": 1}
    many = Dataset((samples[2],) * 30, tmp_path, "csv")
    assert many.setting == "known"
    assert many.with_samples([*many.samples, replace(samples[2], labels=("dent", "stain"))]).setting == "few"


def test_splits_of_synthetic_images_alone_are_no_given_splits(tiny_data):
    real = read_dataset(tiny_data.folder / "labelled.csv")
    bare = [replace(s, split=None) for s in real.samples]
    made = replace(real.samples[0], image=real.samples[0].image.with_name("made.png"), split="train", sources=())
    assert fingerprint(real.with_samples([*bare, made])).splits_given == ()
    assert fingerprint(real).splits_given == ("train", "val")


def test_nothing_readable_is_one_line(tmp_path):
    (tmp_path / "good").mkdir()
    (tmp_path / "good" / "0.png").write_bytes(b"\x89PNG\r\n\x1a\n")
    with pytest.raises(DataError, match="can be read"):
        fingerprint(read_dataset(tmp_path))
