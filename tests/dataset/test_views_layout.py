"""Folders of parts with one image a view: what is read of them, and what is said where a part lacks one."""

import json
import warnings

import cv2
import numpy as np
import pytest
from graphs import anomaly_bundle
from reader_cases import picture
from typer.testing import CliRunner

from blemish.cli import build_app
from blemish.dataset.read import FORMATS, detect_format, read_dataset
from blemish.errors import DataError

PARTS = ("good/1", "good/2", "good/3", "scratch/1", "scratch/2")
VIEWS = ("top", "side")


def make(root, parts=PARTS, names=VIEWS):
    for number, part in enumerate(parts):
        for name in names:
            picture(root / part / f"{name}.png", number)
    return root


def mask(path):
    path.parent.mkdir(parents=True, exist_ok=True)
    marked = np.zeros((24, 32), np.uint8)
    marked[4:9, 5:12] = 255
    cv2.imwrite(str(path), marked)


def test_parts_and_views(tmp_path):
    make(tmp_path)
    assert [name for name, own in FORMATS.items() if own.looks_like(tmp_path)] == ["views"]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        samples = read_dataset(tmp_path).samples
        top = read_dataset(tmp_path, "views:top").samples
    assert {(s.group, s.view, s.label) for s in samples} == {
        (part, view, part.split("/")[0]) for part in PARTS for view in VIEWS
    }
    assert [s for s in samples if s.view == "top"] == list(top)
    with pytest.raises(DataError, match="no view 'back'; it has side, top"):
        read_dataset(tmp_path, "views:back")


def test_parts_of_one_name_in_two_splits_are_two_parts(tmp_path):
    make(tmp_path / "train", PARTS[:3])
    make(tmp_path / "test")
    dataset = read_dataset(tmp_path)
    assert dataset.format == "views"
    groups = {(s.split, s.group) for s in dataset.samples}
    assert len(groups) == len({group for _, group in groups}) == 8


def test_a_view_without_a_mask_of_a_defective_part_is_unknown(tmp_path):
    make(tmp_path)
    mask(tmp_path / "masks/scratch/1/top.png")
    labels = {(s.group, s.view): (s.label, s.mask is not None) for s in read_dataset(tmp_path).samples}
    assert labels["scratch/1", "top"] == ("scratch", True)
    assert labels["scratch/1", "side"] == (None, False)
    assert labels["scratch/2", "side"] == ("scratch", False)  # no mask at all: the folder alone speaks
    assert labels["good/1", "side"] == ("good", False)


def test_what_parts_lack_is_said(tmp_path):
    make(tmp_path)
    (tmp_path / "good/2/side.png").unlink()
    with pytest.warns(UserWarning, match="1 of 5 parts lack the view 'side', such as .*good/2"):
        assert len(read_dataset(tmp_path)) == 9
    picture(tmp_path / "good/1/top.bmp", 1)
    with pytest.raises(DataError, match="both the view 'top'"):
        read_dataset(tmp_path)


@pytest.mark.parametrize(
    ("parts", "names", "found"),
    [
        (("good/lot1", "good/lot2", "defect/scratch"), ("001", "002"), "good-defect"),  # numbers name no views
        (("good/lot1", "good/lot2", "defect/scratch"), ("img_001", "img_002"), "good-defect"),
        (("shoe/good", "shoe/defect", "hat/good", "hat/defect"), VIEWS, "good-defect"),  # products, not classes
    ],
)
def test_other_folders_are_not_taken_for_parts(tmp_path, parts, names, found):
    assert detect_format(make(tmp_path, parts, names)) == found


def test_good_and_defect_hold_parts_too(tmp_path):
    make(tmp_path, ("ok/1", "ok/2", "ng/1"))
    assert detect_format(tmp_path) == "views"
    assert {s.label for s in read_dataset(tmp_path).samples} == {"good", "ng"}


def test_views_are_evaluated_by_part(tmp_path):
    bundle = anomaly_bundle(tmp_path / "grey.blemish")  # passes grey 60 and rejects 200
    for part, view, level in (
        ("good/1", "top", 60), ("good/1", "side", 60), ("good/2", "top", 60), ("good/2", "side", 60),
        ("good/3", "top", 60), ("dent/1", "top", 60), ("dent/1", "side", 200),
    ):  # fmt: skip
        image = np.full((64, 64), 60, np.uint8)
        image[20:30, 20:40] = level
        (tmp_path / "set" / part).mkdir(parents=True, exist_ok=True)
        cv2.imwrite(str(tmp_path / "set" / part / f"{view}.png"), image)
    call = ["views", str(tmp_path / "set"), "--view", f"top={bundle}", "--view", f"side={bundle}", "--json", "-"]
    result = CliRunner().invoke(build_app(), call)
    assert result.exit_code == 0, result.output
    text = result.stdout
    found = json.loads(text[text.index("{") :])
    assert {part["name"]: part["verdict"] for part in found["parts"]} == {
        "good/1": "pass", "good/2": "pass", "good/3": "review", "dent/1": "reject",
    }  # fmt: skip
    assert found["incomplete"] == 1
    assert found["found_by"] == {"top": 0, "side": 1}
