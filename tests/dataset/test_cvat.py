"""CVAT for images: every kind of shape in pixels, tags as labels, and faults that make no image good."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from reader_cases import (
    SIZE,
    cut,
    labels_of,
    mask_of,
    picture,
    ragged,
    read_faulty,
    read_in_silence,
    replace_text,
    save_text,
    spot,
)

from blemish.dataset.read import read_dataset
from blemish.dataset.write import convert
from blemish.geometry import Box, polygon_mask

H, W = SIZE
BOX = '<box label="dent" xtl="4" ytl="6" xbr="14" ybr="10" occluded="0" z_order="0"/>'
TURNED = '<box label="dent" xtl="4" ytl="6" xbr="14" ybr="10" rotation="90"/>'
OUTLINE = '<polygon label="pit" points="2.5,2;20,2;20,12.25"/>'
ELLIPSE = '<ellipse label="pit" cx="16" cy="12" rx="8" ry="4" rotation="90"/>'
TAG = '<tag label="ok"/>'
SOUND = {
    "images/a": "dent", "images/b": "pit", "images/c": "good", "images/d": None, "images/e": "dent",
    "images/f": "dent", "images/g": "pit",
}  # fmt: skip


def mask_element(pixels, label="dent"):
    rows, columns = np.flatnonzero(pixels.any(axis=1)), np.flatnonzero(pixels.any(axis=0))
    top, left = rows[0], columns[0]
    crop = pixels[top : rows[-1] + 1, left : columns[-1] + 1]
    runs, value = [0], False
    for pixel in crop.ravel().tolist():
        if pixel != value:
            runs.append(0)
            value = pixel
        runs[-1] += 1
    text = ", ".join(map(str, runs))
    place = f'left="{left}" top="{top}" width="{crop.shape[1]}" height="{crop.shape[0]}"'
    return f'<mask label="{label}" rle="{text}" {place}/>'


def make(root, **shapes):
    given = {
        "a": BOX, "b": OUTLINE, "c": TAG, "d": "", "e": mask_element(ragged()), "f": TURNED, "g": ELLIPSE, **shapes,
    }  # fmt: skip
    rows = []
    for i, (name, content) in enumerate(given.items()):
        picture(root / "images" / f"{name}.png", i)
        rows.append(f'<image id="{i}" name="{name}.png" width="{W}" height="{H}">{content}</image>\n')
    labels = "".join(f"<label><name>{name}</name></label>" for name in ("dent", "pit", "ok", "scratch"))
    meta = f"<meta><task><labels>{labels}</labels></task></meta>"
    save_text(root / "annotations.xml", f"<annotations><version>1.1</version>{meta}{''.join(rows)}</annotations>")
    return root


def test_sound_set(tmp_path):
    dataset = read_in_silence(make(tmp_path), "cvat")
    assert labels_of(dataset) == SOUND
    samples = {s.image.stem: s for s in dataset.samples}
    assert samples["a"].boxes == (Box(4, 6, 14, 10, "dent"),)
    assert samples["b"].shapes[0].rings == (((2.5, 2), (20, 2), (20, 12.25)),)
    assert (mask_of(dataset, "e") == ragged()).all()
    assert (mask_of(dataset, "f") == spot(top=3, left=7, height=10, width=4)).all()  # about its centre at 9, 8
    upright = np.hypot((np.arange(W) + 0.5 - 16) / 4, (np.arange(H)[:, None] + 0.5 - 12) / 8) < 1
    assert (mask_of(dataset, "g") != upright).mean() < 0.01


def test_unlabelled_as_good_takes_images_without_shapes(tmp_path):
    labels = labels_of(read_dataset(make(tmp_path), unlabelled="good"))
    assert labels == {**SOUND, "images/d": "good"}


def test_several_tags_are_several_classes(tmp_path):
    make(tmp_path, a='<tag label="dent"/><tag label="pit"/>')
    assert labels_of(read_in_silence(tmp_path, "cvat"))["images/a"] == ("dent", "pit")


def text(old, new):
    return lambda root: replace_text(root / "annotations.xml", old, new)


A, C = {"images/a"}, {"images/c"}
FAULTS = {
    "picture is missing": (lambda root: (root / "images/a.png").unlink(), A, "a.png"),
    "cut file": (lambda root: cut(root / "annotations.xml"), set(), "annotations.xml"),
    "no file": (lambda root: (root / "annotations.xml").unlink(), set(), "no .xml file"),
    "another kind of XML": (
        lambda root: save_text(root / "annotations.xml", "<annotation><box/></annotation>"), set(), "annotations.xml",
    ),
    "entities": (text("<annotations>", '<!DOCTYPE x [<!ENTITY a "b">]><annotations>'), set(), "entities"),
    "video": (text("</annotations>", '<track label="dent"/></annotations>'), set(), "video"),
    "class of no name": (text(BOX, BOX.replace("dent", "")), A, "a.png"),
    "class that the task does not know": (text(BOX, BOX.replace("dent", "dnet")), A, "dnet"),
    "number is text": (text('xtl="4"', 'xtl="left"'), A, "left"),
    "number is inf": (text('xbr="14"', 'xbr="inf"'), A, "inf"),
    "number is missing": (text('ybr="10"', ""), A, "a.png"),
    "box without area": (text('xbr="14"', 'xbr="4"'), A, "a.png"),
    "box turned inside out": (text('xbr="14"', 'xbr="1"'), A, "a.png"),
    "box beyond the picture": (text('xtl="4" ytl="6" xbr="14"', 'xtl="44" ytl="6" xbr="54"'), A, "a.png"),
    "rotation is text": (text(BOX, BOX.replace("/>", ' rotation="up"/>')), A, "up"),
    "size of another shape": (text(f'width="{W}"', 'width="50"'), A, "50"),
    "size is negative": (text(f'width="{W}"', 'width="-32"'), A, "a.png"),
    "polyline": (text(BOX, '<polyline label="dent" points="1,1;5,5"/>'), A, "polyline"),
    "points": (text(BOX, '<points label="dent" points="1,1;5,5"/>'), A, "points"),
    "cuboid": (text(BOX, '<cuboid label="dent"/>'), A, "cuboid"),
    "skeleton": (text(BOX, '<skeleton label="dent"/>'), A, "skeleton"),
    "outline of two points": (text("2.5,2;20,2;20,12.25", "2.5,2;20,2"), {"images/b"}, "b.png"),
    "outline of odd numbers": (text("2.5,2;20,2;20,12.25", "2.5,2;20;9"), {"images/b"}, "b.png"),
    "outline of nothing": (text("2.5,2;20,2;20,12.25", ""), {"images/b"}, "b.png"),
    "outline that covers no pixel": (text("2.5,2;20,2;20,12.25", "2,2;2,2;2,2"), {"images/b"}, "no pixel"),
    "run lengths too short": (text('rle="', 'rle="1, 1, '), {"images/e"}, "fill"),
    "run lengths are text": (text('rle="', 'rle="x, '), {"images/e"}, "e.png"),
    "run lengths are negative": (text('rle="', 'rle="-5, 5, '), {"images/e"}, "fill"),
    "mask beyond the picture": (text('left="5"', 'left="30"'), {"images/e"}, "fit"),
    "mask without a place": (text('left="5"', ""), {"images/e"}, "e.png"),
    "good by tag with a defect": (text(TAG, TAG + BOX), C, "c.png"),
    "good and defective by tag": (text(TAG, TAG + '<tag label="dent"/>'), C, "c.png"),
    "tag that the task does not know": (text(TAG, '<tag label="okay"/>'), C, "okay"),
    "tag without a class": (text(TAG, "<tag/>"), C, "c.png"),
    "picture listed twice": (text('name="b.png"', 'name="a.png"'), {"images/a", "images/b"}, "a.png"),
}  # fmt: skip


@pytest.mark.parametrize("fault", FAULTS)
def test_faults(tmp_path, fault):
    spoil, concerned, named = FAULTS[fault]
    spoil(make(tmp_path))
    read_faulty(tmp_path, "cvat", SOUND, concerned, named)


def test_half_size_is_scaled_and_said(tmp_path):
    make(tmp_path)
    text(f'width="{W}" height="{H}"', f'width="{W // 2}" height="{H // 2}"')(tmp_path)
    with pytest.warns(UserWarning, match="scaled"):
        dataset = read_dataset(tmp_path)
    assert dataset.samples[0].boxes == (Box(8, 12, 28, 20, "dent"),)


def test_subsets_are_splits(tmp_path):
    make(tmp_path)
    text('name="a.png"', 'name="a.png" subset="Validation"')(tmp_path)
    assert {s.image.stem: s.split for s in read_in_silence(tmp_path, "cvat").samples}["a"] == "val"


def test_round_trip(tmp_path):
    dataset = read_in_silence(make(tmp_path / "in"), "cvat")
    convert(dataset, "cvat", tmp_path / "out")
    back = read_in_silence(tmp_path / "out", "cvat")
    assert labels_of(back) == SOUND
    for name in "abefg":
        assert back.samples["abcdefg".index(name)].boxes == dataset.samples["abcdefg".index(name)].boxes
        if name != "a":
            assert (mask_of(back, name) == mask_of(dataset, name)).all()


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 2**32 - 1))
def test_masks_survive_writing(tmp_path_factory, seed):
    root = tmp_path_factory.mktemp("cvat")
    pixels = np.random.default_rng(seed).random(SIZE) < 0.4
    make(root / "in", e=mask_element(pixels))
    dataset = read_dataset(root / "in")
    assert (mask_of(dataset, "e") == pixels).all()
    convert(dataset, "cvat", root / "out")
    assert (mask_of(read_dataset(root / "out"), "e") == pixels).all()


@settings(max_examples=20, deadline=None)
@given(st.floats(-180, 180), st.floats(2, 20), st.floats(2, 20))
def test_turned_boxes_by_their_own_frame(tmp_path_factory, degrees, width, height):
    """A pixel is in a turned box if it is in the upright one, once turned back about the centre; but for its border."""
    root = tmp_path_factory.mktemp("cvat")
    x0, y0 = 16 - width / 2, 12 - height / 2
    corners = f'xtl="{x0}" ytl="{y0}" xbr="{x0 + width}" ybr="{y0 + height}"'
    make(root, f=f'<box label="dent" {corners} rotation="{degrees}"/>')
    angle = np.radians(degrees)
    x, y = np.arange(W) + 0.5 - 16, (np.arange(H) + 0.5 - 12)[:, None]
    along, across = x * np.cos(angle) + y * np.sin(angle), -x * np.sin(angle) + y * np.cos(angle)
    depth = np.minimum(width / 2 - abs(along), height / 2 - abs(across))  # px inside
    if (depth > 0).any() and degrees % 360:
        mask = mask_of(read_dataset(root), "f")
        assert mask[depth > 0.25].all()
        assert not mask[depth < -0.25].any()


def test_polygon_is_filled_by_its_outline(tmp_path):
    dataset = read_in_silence(make(tmp_path), "cvat")
    assert (mask_of(dataset, "b") == polygon_mask([(2.5, 2), (20, 2), (20, 12.25)], H, W)).all()
