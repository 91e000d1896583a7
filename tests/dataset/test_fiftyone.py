"""FiftyOne: classes, detections with and without masks, polylines and segmentations in pixels, and faults."""

import base64
import io
import zlib

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from reader_cases import (
    SIZE,
    change_json,
    class_mask_of,
    cut,
    labels_of,
    mask_of,
    picture,
    ragged,
    read_faulty,
    read_in_silence,
    save_json,
    save_mask,
    spot,
)

from blemish.dataset.read import read_dataset
from blemish.geometry import Box

H, W = SIZE
SOUND = {
    "data/a": "dent", "data/b": "pit", "data/c": "good", "data/d": None, "data/e": "dent", "data/f": "dent",
    "data/g": "good", "data/h": None,  # of two classes
}  # fmt: skip


def packed(array):
    stream = io.BytesIO()
    np.save(stream, array)
    return base64.b64encode(zlib.compress(stream.getvalue())).decode()


def detection(label="dent", box=(0.25, 0.25, 0.5, 0.5), **more):
    return {"_cls": "Detection", "label": label, "bounding_box": [*box], **more}


def detections(*rows):
    return {"_cls": "Detections", "detections": [*rows]}


def masked():
    pixels = ragged()[6:18, 8:24]
    return detection(mask={"$binary": {"base64": packed(pixels), "subType": "00"}})


def polyline(**more):
    points = [[[0, 0], [0.5, 0], [0.5, 0.5]]]
    return {"_cls": "Polyline", "label": "pit", "points": points, "closed": True, "filled": True, **more}


def make(root):
    labels = {
        "a": detections(detection()),
        "b": {"_cls": "Polylines", "polylines": [polyline()]},
        "c": detections(),
        "d": None,
        "e": detections(masked()),
        "f": detections(detection(mask_path="fields/f.png")),
        "g": {"_cls": "Classification", "label": "normal"},
        "h": {"_cls": "Segmentation", "mask": packed(spot() * np.uint8(1) + spot(14, 20) * np.uint8(2))},
    }
    save_mask(root / "fields/f.png", ragged()[6:18, 8:24])
    rows = []
    for i, (name, label) in enumerate(labels.items()):
        picture(root / "data" / f"{name}.png", i)
        rows.append({"filepath": f"data/{name}.png", "tags": [], "metadata": {"width": W, "height": H},
                     "ground_truth": label})  # fmt: skip
    save_json(root / "samples.json", {"samples": rows})
    save_json(root / "metadata.json", {"default_mask_targets": {"1": "dent", "2": "pit"}, "mask_targets": {}})
    return root


def test_sound_set(tmp_path):
    dataset = read_in_silence(make(tmp_path), "fiftyone")
    assert labels_of(dataset) == SOUND
    samples = {s.image.stem: s for s in dataset.samples}
    assert {shape.label for shape in samples["h"].shapes} == {"dent", "pit"}
    assert samples["a"].boxes == (Box(8, 6, 24, 18, "dent"),)
    assert samples["b"].shapes[0].rings == (((0, 0), (16, 0), (16, 12)),)
    inside = spot(6, 8, 12, 16) & ragged()
    assert (mask_of(dataset, "e") == inside).all()
    assert (mask_of(dataset, "f") == inside).all()
    assert (class_mask_of(dataset, "h", "dent") == spot()).all()
    assert (class_mask_of(dataset, "h", "pit") == spot(14, 20)).all()


def row(at, edit):
    return lambda root: change_json(root / "samples.json", lambda content: edit(content["samples"][at]))


def item(at, edit):
    return row(at, lambda sample: edit(sample["ground_truth"]["detections"][0]))


A, C, E = {"data/a"}, {"data/c"}, {"data/e"}
FAULTS = {
    "picture is missing": (lambda root: (root / "data/a.png").unlink(), A, "a.png"),
    "cut file": (lambda root: cut(root / "samples.json"), set(), "samples.json"),
    "no list": (lambda root: save_json(root / "samples.json", {"samples": {"filepath": 1}}), set(), "samples.json"),
    "rows of text": (lambda root: save_json(root / "samples.json", {"samples": ["filepath"]}), set(), "samples.json"),
    "cut list of names": (lambda root: cut(root / "metadata.json"), set(), "metadata.json"),
    "class is missing": (item(0, lambda d: d.pop("label")), A, "label"),
    "class of no name": (item(0, lambda d: d.update(label="")), A, "no class"),
    "three numbers": (item(0, lambda d: d["bounding_box"].pop()), A, "a.png"),
    "number is text": (item(0, lambda d: d["bounding_box"].__setitem__(0, "x")), A, "x"),
    "number is nan": (item(0, lambda d: d["bounding_box"].__setitem__(0, float("nan"))), A, "nan"),
    "box in pixels": (item(0, lambda d: d.update(bounding_box=[8, 6, 16, 12])), A, "no pixel"),
    "box without area": (item(0, lambda d: d["bounding_box"].__setitem__(2, 0)), A, "no pixel"),
    "detections are missing": (row(0, lambda s: s["ground_truth"].pop("detections")), A, "detections"),
    "detections of a good part are missing": (row(2, lambda s: s["ground_truth"].pop("detections")), C, "detections"),
    "detections are a number": (row(0, lambda s: s["ground_truth"].update(detections=3)), A, "a.png"),
    "label of another kind": (row(0, lambda s: s["ground_truth"].update(_cls="Keypoints")), A, "Keypoints"),
    "label without a kind": (row(0, lambda s: s["ground_truth"].pop("_cls")), A, "_cls"),
    "size of another shape": (row(0, lambda s: s["metadata"].update(width=71)), A, "71"),
    "size without end": (row(0, lambda s: s["metadata"].update(width=1e999)), A, "a.png"),
    "size is negative": (row(0, lambda s: s["metadata"].update(width=-3)), A, "-3"),
    "open polyline": (
        row(1, lambda s: s["ground_truth"]["polylines"][0].update(closed=False, filled=False)), {"data/b"}, "open",
    ),
    "polyline of two points": (
        row(1, lambda s: s["ground_truth"]["polylines"][0].update(points=[[[0, 0], [1, 1]]])), {"data/b"}, "three p",
    ),
    "polyline of nothing": (
        row(1, lambda s: s["ground_truth"]["polylines"][0].update(points=[])), {"data/b"}, "three points",
    ),
    "mask is no base 64": (item(4, lambda d: d.update(mask="?")), E, "damaged"),
    "mask is not packed": (item(4, lambda d: d.update(mask="QUFB")), E, "damaged"),
    "mask cut off": (item(4, lambda d: d.update(mask=packed(ragged())[:40])), E, "damaged"),
    "mask of objects": (item(4, lambda d: d.update(mask=packed(np.array([{}], object)))), E, "damaged"),
    "mask of three dimensions": (item(4, lambda d: d.update(mask=packed(np.zeros((2, 2, 2))))), E, "no image"),
    "mask of nothing": (item(4, lambda d: d.update(mask=packed(ragged()[6:18, 8:24] & False))), E, "no pixel"),
    "mask of a box of any size": (item(4, lambda d: d["bounding_box"].__setitem__(2, 99999999999)), E, "larger"),
    "mask file is missing": (lambda root: (root / "fields/f.png").unlink(), {"data/f"}, "f.png"),
    "mask file is cut": (lambda root: cut(root / "fields/f.png"), {"data/f"}, "f.png"),
    "class without a name": (row(6, lambda s: s["ground_truth"].update(label=None)), {"data/g"}, "no class"),
    "good and defective": (
        row(6, lambda s: s.update(ground_truth={"_cls": "Classifications", "classifications": [
            {"label": "ok"}, {"label": "dent"}]})), {"data/g"}, "at once",
    ),
    "segmentation of another size": (
        row(7, lambda s: s["ground_truth"].update(mask=packed(np.ones((5, 5), np.uint8)))), {"data/h"}, "5×5",
    ),
    "segmentation of a value without a name": (
        row(7, lambda s: s["ground_truth"].update(mask=packed(np.full(SIZE, 7, np.uint8)))), {"data/h"}, "7",
    ),
    "segmentation without a mask": (row(7, lambda s: s["ground_truth"].pop("mask")), {"data/h"}, "no mask"),
    "two fields": (
        lambda root: [row(i, lambda s: s.update(one=s.pop("ground_truth"), two=detections()))(root) for i in range(8)],
        set(), "one, two",
    ),
    "picture listed twice": (row(1, lambda s: s.update(filepath="data/a.png")), {"data/a", "data/b"}, "a.png"),
}  # fmt: skip


@pytest.mark.parametrize("fault", FAULTS)
def test_faults(tmp_path, fault):
    spoil, concerned, named = FAULTS[fault]
    spoil(make(tmp_path))
    read_faulty(tmp_path, "fiftyone", SOUND, concerned, named)


def test_another_field_by_option(tmp_path):
    make(tmp_path)
    row(2, lambda s: s.update(second=detections(detection("pit"))))(tmp_path)
    assert labels_of(read_dataset(tmp_path, "fiftyone:second"))["data/c"] == "pit"


def test_tags_are_splits(tmp_path):
    make(tmp_path)
    row(0, lambda s: s.update(tags=["bright", "validation"]))(tmp_path)
    assert read_in_silence(tmp_path, "fiftyone").samples[0].split == "val"


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 20), st.integers(0, 12), st.integers(0, 2**32 - 1))
def test_masks_anywhere(tmp_path_factory, left, top, seed):
    root = make(tmp_path_factory.mktemp("fiftyone"))
    crop = np.random.default_rng(seed).random((12, 12)) < 0.5
    crop[0, 0] = True
    box = [left / W, top / H, 12 / W, 12 / H]
    item(4, lambda d: d.update(bounding_box=box, mask=packed(crop)))(root)
    whole = np.zeros(SIZE, np.bool_)
    whole[top : top + 12, left : left + 12] = crop
    assert (mask_of(read_dataset(root), "e") == whole).all()
