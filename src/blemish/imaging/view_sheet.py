"""Several views of a part in one PNG file: side by side, with their layout in a text chunk of the file.

One file is one part: it is stored, shown, reviewed and inspected again like any image. `split_sheet` gives back the
very pixels of each view. A view that is missing is named in the layout, so that nothing takes the rest for the whole.
"""

import json
import struct
import zlib
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from blemish.errors import ImageError
from blemish.imaging.read import encode

KEYWORD = b"blemish-views"
_SIGNATURE = b"\x89PNG\r\n\x1a\n"
_TO_16 = 257  # 8 bits at full scale are 16 bits at full scale


@dataclass(frozen=True, slots=True)
class ViewPlace:
    """A view on the sheet, in px; its own number of channels (1 or 3) and bits (8 or 16)."""

    name: str
    x: int
    width: int
    height: int
    channels: int
    bits: int


@dataclass(frozen=True, slots=True)
class SheetLayout:
    """The views of a part, those that are missing too."""

    places: tuple[ViewPlace, ...]
    missing: tuple[str, ...] = ()


def compose_sheet(views: Mapping[str, NDArray[Any] | None]) -> bytes:
    """The file of a sheet; views are (H, W, C) uint8 or uint16, grey or RGB, or None where missing.

    Raises ImageError where there is none, and for images of other types.
    """
    images = {name: image for name, image in views.items() if image is not None}
    if not images:
        raise ImageError(f"none of the views {', '.join(views)} has an image")
    for name, image in images.items():
        if image.ndim != 3 or image.shape[2] not in (1, 3) or image.dtype not in (np.uint8, np.uint16):
            raise ImageError(f"view {name} is {image.dtype} of shape {image.shape}; give grey or RGB of 8 or 16 bits")
    deep = any(image.dtype == np.uint16 for image in images.values())
    channels = max(image.shape[2] for image in images.values())
    height, width = max(i.shape[0] for i in images.values()), sum(i.shape[1] for i in images.values())
    sheet = np.zeros((height, width, channels), np.uint16 if deep else np.uint8)
    places, x = [], 0
    for name, image in images.items():
        own_height, own_width, own_channels = image.shape
        bits = 16 if image.dtype == np.uint16 else 8
        places.append(ViewPlace(name, x, own_width, own_height, own_channels, bits))
        values = image.astype(np.uint16) * _TO_16 if deep and bits == 8 else image
        sheet[:own_height, x : x + own_width] = values
        x += own_width
    layout = SheetLayout(tuple(places), tuple(name for name, image in views.items() if image is None))
    png = encode(sheet, ".png")
    text = KEYWORD + b"\0" + json.dumps(asdict(layout)).encode("ascii")
    chunk = struct.pack(">I", len(text)) + b"tEXt" + text + struct.pack(">I", zlib.crc32(b"tEXt" + text))
    header_end = len(_SIGNATURE) + 25  # IHDR is the first chunk, of 13 bytes
    return png[:header_end] + chunk + png[header_end:]


def read_layout(path: str | Path) -> SheetLayout | None:
    """The layout in a file, or None where it is no sheet; raises ImageError for a damaged one."""
    with Path(path).open("rb") as stream:
        if stream.read(len(_SIGNATURE)) != _SIGNATURE:
            return None
        while len(head := stream.read(8)) == 8:
            length, kind = struct.unpack(">I4s", head)
            if kind in (b"IDAT", b"IEND"):
                return None
            if kind != b"tEXt" or length > 2**20:
                stream.seek(length + 4, 1)
                continue
            text = stream.read(length)
            stream.seek(4, 1)
            if text.startswith(KEYWORD + b"\0"):
                return _parse(text[len(KEYWORD) + 1 :], path)
    return None


def _parse(text: bytes, path: str | Path) -> SheetLayout:
    try:
        data = json.loads(text)
        places = tuple(ViewPlace(**place) for place in data["places"])
        return SheetLayout(places, tuple(map(str, data["missing"])))
    except (ValueError, KeyError, TypeError) as error:
        raise ImageError(f"{path}: the layout of its views is damaged") from error


def split_sheet(sheet: NDArray[Any], layout: SheetLayout) -> dict[str, NDArray[Any]]:
    """The views as they were; raises ImageError where the layout does not fit the image."""
    views = {}
    for place in layout.places:
        image = sheet[: place.height, place.x : place.x + place.width, : place.channels]
        sound = place.x >= 0 and image.shape == (place.height, place.width, place.channels) and image.size > 0
        if not sound or place.bits not in (8, 16):
            raise ImageError(f"view {place.name} does not lie on its sheet")
        if sheet.dtype == np.uint16 and place.bits == 8:
            image = (image // _TO_16).astype(np.uint8)
        views[place.name] = np.ascontiguousarray(image)
    return views
