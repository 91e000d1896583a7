"""Sheets of views: the very pixels come back, missing views are named, damage is refused."""

import json
import struct
import zlib

import numpy as np
import pytest

from blemish.errors import ImageError
from blemish.imaging.read import encode, read_image
from blemish.imaging.view_sheet import KEYWORD, compose_sheet, read_layout, split_sheet

RNG = np.random.default_rng(0)
GREY = RNG.integers(0, 256, (5, 7, 1), np.uint8)
COLOUR = RNG.integers(0, 256, (9, 4, 3), np.uint8)
DEEP = RNG.integers(0, 65536, (3, 6, 1)).astype(np.uint16)


@pytest.mark.parametrize(
    "views",
    [{"top": GREY}, {"top": GREY, "side": COLOUR}, {"a": COLOUR, "b": GREY, "c": DEEP}, {"a": DEEP, "b": DEEP}],
    ids=lambda views: "+".join(views),
)
def test_the_same_pixels_come_back(tmp_path, views):
    path = tmp_path / "part.png"
    path.write_bytes(compose_sheet(views))
    layout = read_layout(path)
    sheet = read_image(path)
    assert sheet.shape[0] == max(view.shape[0] for view in views.values())
    assert sheet.shape[1] == sum(view.shape[1] for view in views.values())
    back = split_sheet(sheet, layout)
    assert list(back) == list(views)
    assert layout.missing == ()
    for name, view in views.items():
        assert back[name].dtype == view.dtype
        np.testing.assert_array_equal(back[name], view)


def test_missing_views_are_named(tmp_path):
    (tmp_path / "part.png").write_bytes(compose_sheet({"top": GREY, "side": None}))
    layout = read_layout(tmp_path / "part.png")
    assert ([place.name for place in layout.places], layout.missing) == (["top"], ("side",))
    with pytest.raises(ImageError, match="none of the views"):
        compose_sheet({"top": None})
    with pytest.raises(ImageError, match="float32"):
        compose_sheet({"top": GREY.astype(np.float32)})


def test_what_is_no_sheet(tmp_path):
    path = tmp_path / "part.png"
    path.write_bytes(encode(GREY, ".png"))
    assert read_layout(path) is None
    path.write_bytes(b"")
    assert read_layout(path) is None
    whole = compose_sheet({"top": GREY})
    layout = json.loads(whole.split(KEYWORD + b"\0")[1].split(b"}]")[0] + b'}], "missing": []}')
    for change in ({"x": 3}, {"width": 8}, {"channels": 3}, {"bits": 12}, {"height": 0}):
        damaged = {"places": [layout["places"][0] | change], "missing": []}
        text = KEYWORD + b"\0" + json.dumps(damaged).encode()
        chunk = struct.pack(">I", len(text)) + b"tEXt" + text + struct.pack(">I", zlib.crc32(b"tEXt" + text))
        png = encode(GREY, ".png")
        path.write_bytes(png[:33] + chunk + png[33:])
        with pytest.raises(ImageError, match="does not lie"):
            split_sheet(read_image(path), read_layout(path))
    path.write_bytes(whole.replace(b'"places"', b'"pieces"'))
    with pytest.raises(ImageError, match="damaged"):
        read_layout(path)
