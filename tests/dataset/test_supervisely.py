"""Supervisely: rectangles, polygons with holes and bitmaps in pixels, tags as labels, and faults."""

import base64
import zlib

import cv2
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

from blemish.dataset.read import read_dataset
from blemish.dataset.write import convert
from blemish.geometry import Box

H, W = SIZE
SOUND = {f"lot/img/{n}": label for n, label in zip("abcdef", ("dent", "pit", "good", None, "dent", "pit"), strict=True)}


def rectangle(label="dent"):
    return {"classTitle": label, "geometryType": "rectangle", "points": {"exterior": [[4, 6], [13, 9]], "interior": []}}


def polygon(*holes):
    exterior = [[2, 2], [22, 2], [22, 20], [2, 20]]
    return {"classTitle": "pit", "geometryType": "polygon", "points": {"exterior": exterior, "interior": [*holes]}}


def bitmap(pixels, left=0, top=0):
    """As Supervisely packs it: a PNG with an alpha channel, by zlib, in base 64."""
    image = np.dstack([pixels * np.uint8(255)] * 4)
    data = base64.b64encode(zlib.compress(cv2.imencode(".png", image)[1].tobytes())).decode()
    return {"classTitle": "dent", "geometryType": "bitmap", "bitmap": {"data": data, "origin": [left, top]}}


def make(root):
    meta = {
        "classes": [{"title": t, "shape": "any", "color": "#F00"} for t in ("dent", "pit", "bolt")],
        "tags": [{"name": "ok", "value_type": "none"}, {"name": "night", "value_type": "none"}],
    }
    save_json(root / "meta.json", meta)
    hole = [[6, 6], [12, 6], [12, 12], [6, 12]]
    objects = {
        "a": [rectangle()], "b": [polygon()], "c": [], "d": [], "e": [bitmap(ragged()[3:20, 5:27], 5, 3)],
        "f": [polygon(hole)],
    }  # fmt: skip
    for i, (name, rows) in enumerate(objects.items()):
        picture(root / "lot/img" / f"{name}.png", i)
        tags = {"c": [{"name": "ok", "value": None}], "d": [{"name": "night", "value": None}]}.get(name, [])
        content = {"description": "", "tags": tags, "size": {"height": H, "width": W}, "objects": rows}
        save_json(root / "lot/ann" / f"{name}.png.json", content)
    return root


def test_names_that_differ_in_case_alone(tmp_path):
    """Each image has its own file; and one that has none does not take that of the other."""
    make(tmp_path)
    for name in ("A.png", "B.png"):
        picture(tmp_path / "lot/img" / name, 7)
    content = (tmp_path / "lot/ann/a.png.json").read_text(encoding="utf-8")
    (tmp_path / "lot/ann/A.png.json").write_text(content.replace("dent", "pit"), encoding="utf-8")
    dataset = read_in_silence(tmp_path, "supervisely")
    assert labels_of(dataset) == SOUND | {"lot/img/A": "pit", "lot/img/B": None}
    convert(dataset.where(lambda s: s.label is not None), "supervisely", tmp_path / "out")
    again = read_in_silence(tmp_path / "out", "supervisely")
    assert sorted(s.label for s in again.samples) == sorted(s.label for s in dataset.samples if s.label is not None)
    assert len({s.image.name.casefold() for s in again.samples}) == len(again)


def test_sound_set(tmp_path):
    dataset = read_in_silence(make(tmp_path), "supervisely")
    assert labels_of(dataset) == SOUND
    samples = {s.image.stem: s for s in dataset.samples}
    assert samples["a"].boxes == (Box(4, 6, 14, 10, "dent"),)  # the last pixel belongs to it
    assert (mask_of(dataset, "b") == spot(2, 2, 18, 20)).all()
    assert (mask_of(dataset, "e") == ragged()).all()
    assert (mask_of(dataset, "f") == (spot(2, 2, 18, 20) & ~spot(6, 6, 6, 6))).all()


def change(name, edit):
    return lambda root: change_json(root / f"lot/ann/{name}.png.json", edit)


def first(content):
    return content["objects"][0]


A, C, E = {"lot/img/a"}, {"lot/img/c"}, {"lot/img/e"}
FAULTS = {
    "annotation is missing": (lambda root: (root / "lot/ann/a.png.json").unlink(), A, ""),
    "good annotation is missing": (lambda root: (root / "lot/ann/c.png.json").unlink(), C, ""),
    "picture is missing": (lambda root: (root / "lot/img/a.png").unlink(), A, "a.png.json"),
    "cut annotation": (lambda root: cut(root / "lot/ann/a.png.json"), A, "a.png.json"),
    "cut annotation of a good part": (lambda root: cut(root / "lot/ann/c.png.json"), C, "c.png.json"),
    "annotation is a list": (lambda root: save_json(root / "lot/ann/a.png.json", []), A, "a.png.json"),
    "cut list of classes": (lambda root: cut(root / "meta.json"), set(), "meta.json"),
    "list of classes is missing": (lambda root: (root / "meta.json").unlink(), set(), "meta.json"),
    "class that is not listed": (change("a", lambda c: first(c).update(classTitle="dnet")), A, "dnet"),
    "class is missing": (change("a", lambda c: first(c).pop("classTitle")), A, "classTitle"),
    "tag that is not listed": (change("c", lambda c: c["tags"].append({"name": "new"})), C, "new"),
    "size of another shape": (change("a", lambda c: c["size"].update(width=77)), A, "77"),
    "size is missing": (change("a", lambda c: c.pop("size")), A, "size"),
    "size without end": (change("a", lambda c: c["size"].update(width=1e999)), A, "a.png.json"),
    "size of nothing": (change("a", lambda c: c["size"].update(width=0)), A, "0×"),
    "objects are missing": (change("a", lambda c: c.pop("objects")), A, "objects"),
    "line": (change("a", lambda c: first(c).update(geometryType="line")), A, "line"),
    "point": (change("a", lambda c: first(c).update(geometryType="point")), A, "point"),
    "number is text": (change("a", lambda c: first(c)["points"].update(exterior=[["x", 1], [2, 3]])), A, "x"),
    "three corners": (change("a", lambda c: first(c)["points"]["exterior"].append([9, 9])), A, "object 1"),
    "rectangle beyond the picture": (
        change("a", lambda c: first(c)["points"].update(exterior=[[90, 90], [99, 99]])), A, "a.png",
    ),
    "outline of two points": (
        change("b", lambda c: first(c)["points"].update(exterior=[[1, 1], [2, 2]])), {"lot/img/b"}, "object 1",
    ),
    "hole of text": (change("f", lambda c: first(c)["points"].update(interior=["x"])), {"lot/img/f"}, "object 1"),
    "nothing left but the hole": (
        change("f", lambda c: first(c)["points"].update(interior=[first(c)["points"]["exterior"]])), {"lot/img/f"},
        "no pixel",
    ),
    "bitmap is no base 64": (change("e", lambda c: first(c)["bitmap"].update(data="?")), E, "damaged"),
    "bitmap is not packed": (change("e", lambda c: first(c)["bitmap"].update(data="QUFB")), E, "damaged"),
    "bitmap is no PNG": (
        change("e", lambda c: first(c)["bitmap"].update(data=base64.b64encode(zlib.compress(b"x")).decode())), E,
        "damaged",
    ),
    "bitmap cut off": (
        change("e", lambda c: first(c)["bitmap"].update(data=first(c)["bitmap"]["data"][:40])), E, "damaged",
    ),
    "bitmap beyond the picture": (change("e", lambda c: first(c)["bitmap"].update(origin=[20, 20])), E, "fit"),
    "bitmap without a place": (change("e", lambda c: first(c)["bitmap"].pop("origin")), E, "origin"),
    "good by tag with a defect": (change("c", lambda c: c["objects"].append(rectangle())), C, "c.png"),
}  # fmt: skip


@pytest.mark.parametrize("fault", FAULTS)
def test_faults(tmp_path, fault):
    spoil, concerned, named = FAULTS[fault]
    spoil(make(tmp_path))
    read_faulty(tmp_path, "supervisely", SOUND, concerned, named)


def test_folders_are_splits(tmp_path):
    make(tmp_path)
    (tmp_path / "lot").rename(tmp_path / "test")
    assert {s.split for s in read_in_silence(tmp_path, "supervisely").samples} == {"test"}


def test_round_trip(tmp_path):
    dataset = read_in_silence(make(tmp_path / "in"), "supervisely")
    convert(dataset, "supervisely", tmp_path / "out")
    back = read_in_silence(tmp_path / "out", "supervisely")
    assert [s.label for s in back.samples] == [*SOUND.values()]
    assert back.samples[0].boxes == dataset.samples[0].boxes
    for name in "bef":
        assert (mask_of(back, name) == mask_of(dataset, name)).all()


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 2**32 - 1), st.integers(0, 20), st.integers(0, 12))
def test_bitmaps_anywhere(tmp_path_factory, seed, left, top):
    root = make(tmp_path_factory.mktemp("supervisely"))
    crop = np.random.default_rng(seed).random((12, 12)) < 0.5
    crop[0, 0] = True
    change("e", lambda c: c.update(objects=[bitmap(crop, left, top)]))(root)
    whole = np.zeros(SIZE, np.bool_)
    whole[top : top + 12, left : left + 12] = crop
    assert (mask_of(read_dataset(root), "e") == whole).all()
