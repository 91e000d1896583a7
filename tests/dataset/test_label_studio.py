"""Label Studio: every kind of region in pixels, brush masks bit by bit, and faults that make no image good."""

import random

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from reader_cases import (
    SIZE,
    change_json,
    cut,
    labels_of,
    mask_of,
    picture,
    ragged,
    read_faulty,
    read_in_silence,
    save_json,
    spot,
)

from blemish.dataset.formats.label_studio import decode_brush, encode_brush
from blemish.dataset.read import read_dataset
from blemish.dataset.write import convert
from blemish.geometry import Box, Polygon

H, W = SIZE
SOUND = {
    "images/a": "dent", "images/b": "pit", "images/c": "good", "images/d": None, "images/e": "good",
    "images/f": "dent", "images/g": "scratch",
}  # fmt: skip


def region(kind, value, label, **more):
    return {
        "id": f"r{random.random()}", "type": kind, "from_name": "label", "to_name": "image", "original_width": W,
        "original_height": H, "image_rotation": 0, "value": {**value, kind: [label]}, **more,
    }  # fmt: skip


def rectangle(label="dent", rotation=0, x=25, y=25, width=50, height=50):
    value = {"x": x, "y": y, "width": width, "height": height, "rotation": rotation}
    return region("rectanglelabels", value, label)


def brush(pixels, label="dent"):
    return region("brushlabels", {"format": "rle", "rle": encode_brush(pixels)}, label)


def choice(*names, control="quality"):
    return {"id": "c", "type": "choices", "from_name": control, "to_name": "image", "value": {"choices": [*names]}}


def task(name, *results, **more):
    annotations = [{"id": 1, "was_cancelled": False, "result": [*result]} for result in results]
    return {"id": name, "data": {"image": f"/data/upload/3/0a1b2c3d-{name}.png"}, "annotations": annotations, **more}


def make(root):
    for i, name in enumerate("abcdefg"):
        picture(root / "images" / f"{name}.png", i)
    outline = region("polygonlabels", {"points": [[0, 0], [50, 0], [50, 50]], "closed": True}, "pit")
    tasks = [
        task("a", [rectangle()]),
        task("b", [outline]),
        task("c", []),
        task("d"),
        task("e", [choice("OK")]),
        task("f", [brush(ragged())]),
        task("g", [rectangle("scratch", rotation=90), choice("scratch")]),
    ]
    save_json(root / "export.json", tasks)
    return root


def test_sound_set(tmp_path):
    dataset = read_in_silence(make(tmp_path), "label-studio")
    assert labels_of(dataset) == SOUND
    samples = {s.image.stem: s for s in dataset.samples}
    assert samples["a"].boxes == (Box(8, 6, 24, 18, "dent"),)
    assert samples["b"].shapes == (Polygon((((0, 0), (16, 0), (16, 12)),), "pit"),)
    assert (mask_of(dataset, "f") == ragged()).all()
    ring = samples["g"].shapes[0].rings[0]  # turned about its first corner, at 8, 6: 16 wide and 12 high
    assert np.allclose(ring, [(8, 6), (8, 22), (-4, 22), (-4, 6)])


def test_region_and_class_in_two_entries(tmp_path):
    picture(tmp_path / "a.png")
    plain = {**rectangle(), "type": "rectangle", "id": "x"}
    del plain["value"]["rectanglelabels"]
    named = {**rectangle(), "type": "labels", "id": "x"}
    named["value"] = {**named["value"], "labels": ["dent"]}
    del named["value"]["rectanglelabels"]
    save_json(tmp_path / "export.json", [task("a", [plain, named])])
    assert read_in_silence(tmp_path, "label-studio").samples[0].boxes == (Box(8, 6, 24, 18, "dent"),)


def test_boxes_of_good_parts_are_no_defects(tmp_path):
    picture(tmp_path / "a.png")
    save_json(tmp_path / "export.json", [task("a", [rectangle("OK")])])
    sample = read_in_silence(tmp_path, "label-studio").samples[0]
    assert (sample.label, sample.boxes) == ("good", ())


@pytest.mark.parametrize("address", [
    "s3://bucket/lot 3/a.png", "/data/local-files/?d=lot%203/a.png", "http://host/lot%203/a.png?token=1", "a.png",
    "C:\\lot 3\\a.png",
])  # fmt: skip
def test_addresses_of_images(tmp_path, address):
    picture(tmp_path / "lot 3" / "a.png")
    save_json(tmp_path / "export.json", [task("a", [rectangle()]) | {"data": {"image": address}}])
    assert labels_of(read_in_silence(tmp_path, "label-studio")) == {"lot 3/a": "dent"}


def change(at, edit):
    return lambda root: change_json(root / "export.json", lambda tasks: edit(tasks[at]))


def results(task):
    return task["annotations"][0]["result"]


FAULTS = {
    "picture is missing": (lambda root: (root / "images/a.png").unlink(), {"images/a"}, "a.png"),
    "cut file": (lambda root: cut(root / "export.json"), set(), "export.json"),
    "not a list": (lambda root: save_json(root / "export.json", {"data": 1, "annotations": 2}), set(), "export.json"),
    "region without a class": (
        change(0, lambda t: results(t)[0]["value"].pop("rectanglelabels")), {"images/a"}, "a.png",
    ),
    "region of two classes": (
        change(0, lambda t: results(t)[0]["value"].update(rectanglelabels=["x", "y"])), {"images/a"}, "a.png",
    ),
    "number is text": (change(0, lambda t: results(t)[0]["value"].update(x="left")), {"images/a"}, "left"),
    "number is nan": (change(0, lambda t: results(t)[0]["value"].update(x=float("nan"))), {"images/a"}, "nan"),
    "number is missing": (change(0, lambda t: results(t)[0]["value"].pop("height")), {"images/a"}, "height"),
    "size of another shape": (change(0, lambda t: results(t)[0].update(original_width=99)), {"images/a"}, "99"),
    "size is missing": (change(0, lambda t: results(t)[0].pop("original_width")), {"images/a"}, "original_width"),
    "size of nothing": (change(0, lambda t: results(t)[0].update(original_height=0)), {"images/a"}, "0 pixels"),
    "turned picture": (change(0, lambda t: results(t)[0].update(image_rotation=90)), {"images/a"}, "90"),
    "key point": (change(0, lambda t: results(t)[0].update(type="keypointlabels")), {"images/a"}, "keypointlabels"),
    "region is a text": (change(0, lambda t: t["annotations"][0].update(result=["x"])), {"images/a"}, "region 1"),
    "result is missing": (change(0, lambda t: t["annotations"][0].pop("result")), {"images/a"}, "task a"),
    "skipped task": (change(0, lambda t: t["annotations"][0].update(was_cancelled=True)), {"images/a"}, "task a"),
    "skipped good task": (change(2, lambda t: t["annotations"][0].update(was_cancelled=True)), {"images/c"}, "task c"),
    "outline of two points": (change(1, lambda t: results(t)[0]["value"]["points"].pop()), {"images/b"}, "points"),
    "outline beyond the picture": (
        change(1, lambda t: results(t)[0]["value"].update(points=[[200, 0], [250, 0], [250, 9]])), {"images/b"}, "b.p",
    ),
    "brush cut off": (change(5, lambda t: results(t)[0]["value"]["rle"].pop()), {"images/f"}, "cut off"),
    "brush without its size": (change(5, lambda t: results(t)[0]["value"].update(rle=[0, 0])), {"images/f"}, "cut off"),
    "brush of bytes beyond 255": (
        change(5, lambda t: results(t)[0]["value"].update(rle=[999])), {"images/f"}, "f.png",
    ),
    "brush of another size": (
        change(5, lambda t: results(t)[0]["value"].update(rle=encode_brush(spot(size=(20, 20))))), {"images/f"}, "400",
    ),
    "choices of two controls": (
        change(4, lambda t: results(t).append(choice("blurred", control="focus"))), {"images/e"}, "focus",
    ),
    "good by choice with a defect": (
        change(4, lambda t: results(t).append(rectangle())), {"images/e"}, "e.png",
    ),
    "good and defective by choice": (
        change(4, lambda t: results(t)[0]["value"]["choices"].append("dent")), {"images/e"}, "e.png",
    ),
    "annotators disagree": (
        change(2, lambda t: t["annotations"].append({"id": 2, "result": [rectangle()]})), {"images/c"}, "differ",
    ),
    "task without a picture": (change(0, lambda t: t.update(data={})), {"images/a"}, "does not exist"),
    "picture listed twice": (change(1, lambda t: t.update(data={"image": "a.png"})), {"images/a", "images/b"}, "a.png"),
}  # fmt: skip


@pytest.mark.parametrize("fault", FAULTS)
def test_faults(tmp_path, fault):
    spoil, concerned, named = FAULTS[fault]
    spoil(make(tmp_path))
    read_faulty(tmp_path, "label-studio", SOUND, concerned, named)


def test_same_name_in_two_folders(tmp_path):
    make(tmp_path)
    picture(tmp_path / "other/a.png", 9)
    sound = {**SOUND, "other/a": None}
    read_faulty(tmp_path, "label-studio", sound, {"images/a", "other/a"}, "a.png")


def test_marked_annotation_counts(tmp_path):
    make(tmp_path)
    better = {"id": 2, "ground_truth": True, "result": [rectangle("pit")]}
    change(0, lambda t: t["annotations"].append(better))(tmp_path)
    assert labels_of(read_in_silence(tmp_path, "label-studio")) == {**SOUND, "images/a": "pit"}


def test_half_size_is_scaled_and_said(tmp_path):
    make(tmp_path)
    change(0, lambda t: results(t)[0].update(original_width=W // 2, original_height=H // 2))(tmp_path)
    with pytest.warns(UserWarning, match="scaled"):
        dataset = read_dataset(tmp_path)
    assert dataset.samples[0].boxes == (Box(8, 6, 24, 18, "dent"),)


def test_round_trip(tmp_path):
    dataset = read_in_silence(make(tmp_path / "in"), "label-studio")
    convert(dataset, "label-studio", tmp_path / "out")
    back = read_in_silence(tmp_path / "out", "label-studio")
    assert labels_of(back) == SOUND
    assert (mask_of(back, "f") == ragged()).all()


def reference_decode(data):
    """The published decoder's steps, written out plainly, one pixel value at a time."""
    bits = "".join(f"{byte:08b}" for byte in data)
    at = 0

    def take(count):
        nonlocal at
        at += count
        return int(bits[at - count : at], 2)

    total, word, sizes = take(32), take(5) + 1, [take(4) + 1 for _ in range(4)]
    values = []
    while len(values) < total:
        same = take(1)
        length = take(sizes[take(2)]) + 1
        values += [take(word)] * length if same else [take(word) for _ in range(length)]
    return values


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 2**32 - 1), st.integers(1, 9), st.integers(1, 9))
def test_brush_masks_survive(seed, height, width):
    pixels = np.random.default_rng(seed).random((height, width)) < 0.5
    data = encode_brush(pixels)
    assert decode_brush(data).tolist() == reference_decode(data) == np.repeat(pixels.ravel() * 255, 4).tolist()


def test_long_and_literal_runs():
    assert decode_brush(encode_brush(np.ones((300, 300), np.bool_))).tolist() == [255] * 360_000
    literal = f"{4:032b}{7:05b}" + "".join(f"{n:04b}" for n in (2, 3, 7, 15)) + "000" + f"{3:03b}"
    literal += "".join(f"{v:08b}" for v in (1, 2, 3, 200))
    literal += "0" * (-len(literal) % 8)
    data = [int(literal[i : i + 8], 2) for i in range(0, len(literal), 8)]
    assert decode_brush(data).tolist() == reference_decode(data) == [1, 2, 3, 200]
