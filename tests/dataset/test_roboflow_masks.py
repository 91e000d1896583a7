"""Roboflow's semantic masks: class numbers by name, and faults that make no image good."""

import numpy as np
import pytest
from reader_cases import (
    class_mask_of,
    cut,
    labels_of,
    picture,
    read_faulty,
    read_in_silence,
    save_text,
    spot,
)

from blemish.imaging.read import write_image

SOUND = {"train/a_png.rf.1": "dent", "train/b_png.rf.2": "pit", "train/c_png.rf.3": "good", "valid/d_png.rf.4": "dent"}
NAMES = "Pixel Value, Class\n0, background\n1, dent\n2, pit\n"


def make(root):
    values = {"train/a_png.rf.1": 1, "train/b_png.rf.2": 2, "train/c_png.rf.3": 0, "valid/d_png.rf.4": 1}
    for i, (name, value) in enumerate(values.items()):
        picture(root / f"{name}.jpg", i)
        write_image(root / f"{name}_mask.png", spot().astype(np.uint8) * value)
    for split in ("train", "valid"):
        save_text(root / split / "_classes.csv", NAMES)
    return root


def test_sound_set(tmp_path):
    dataset = read_in_silence(make(tmp_path), "roboflow-masks")
    assert labels_of(dataset) == SOUND
    assert [s.split for s in dataset.samples] == ["train"] * 3 + ["val"]
    assert dataset.defect_classes == ("dent", "pit")
    assert (class_mask_of(dataset, "b_png.rf.2", "pit") == spot()).all()
    assert not class_mask_of(dataset, "b_png.rf.2", "dent").any()


def test_class_of_good_parts(tmp_path):
    make(tmp_path)
    for split in ("train", "valid"):
        save_text(tmp_path / split / "_classes.csv", NAMES.replace("pit", "OK"))
    dataset = read_in_silence(tmp_path, "roboflow-masks")
    assert labels_of(dataset)["train/b_png.rf.2"] == "good"


A, B, C = {"train/a_png.rf.1"}, {"train/b_png.rf.2"}, {"train/c_png.rf.3"}
TRAIN = {name for name in SOUND if name.startswith("train")}


def names(text):
    return lambda root: save_text(root / "train/_classes.csv", text)


FAULTS = {
    "mask is missing": (lambda root: (root / "train/a_png.rf.1_mask.png").unlink(), A, ""),
    "mask of a good part is missing": (lambda root: (root / "train/c_png.rf.3_mask.png").unlink(), C, ""),
    "mask is cut": (lambda root: cut(root / "train/c_png.rf.3_mask.png"), C, "c_png.rf.3"),
    "empty mask of another size": (
        lambda root: write_image(root / "train/c_png.rf.3_mask.png", np.zeros((9, 9), np.uint8)), C, "c_png.rf.3",
    ),
    "mask in colours": (lambda root: picture(root / "train/a_png.rf.1_mask.png", 3), A, "colours"),
    "value without a name": (
        lambda root: write_image(root / "train/c_png.rf.3_mask.png", spot().astype(np.uint8) * 9), C, "9",
    ),
    "picture is missing": (lambda root: (root / "train/a_png.rf.1.jpg").unlink(), A, "a_png.rf.1_mask.png"),
    "names are missing": (lambda root: (root / "train/_classes.csv").unlink(), TRAIN, "_classes.csv"),
    "names are empty": (names(""), TRAIN, "train"),
    "name twice": (names(NAMES + "1, other\n"), TRAIN, "line 5"),
    "value is text": (names(NAMES.replace("1,", "one,")), TRAIN, "line 3"),
    "value beyond a byte": (names(NAMES.replace("2,", "777,")), TRAIN, "777"),
    "class of no name": (names(NAMES.replace("dent", "")), TRAIN, "line 3"),
    "value left out": (names(NAMES.replace("2,", "3,")), TRAIN, "2"),
    "nothing is background": (names(NAMES.replace("background", "scratch")), TRAIN, "background"),
}  # fmt: skip


@pytest.mark.parametrize("fault", FAULTS)
def test_faults(tmp_path, fault):
    spoil, concerned, named = FAULTS[fault]
    spoil(make(tmp_path))
    read_faulty(tmp_path, "roboflow-masks", SOUND, concerned, named)
