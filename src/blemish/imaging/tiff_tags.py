"""TIFF files whose tags ask a decoder for no change of the pixels.

Decoders differ in what they do by these tags: OpenCV and Pillow turn the image, tifffile does not; OpenCV inverts grey
of 8 bits where 0 is white, and of 16 bits not; libtiff multiplies colours of 8 bits by alpha. With all of them neutral,
every decoder gives the pixels as stored, and what the tags mean is done in one place.
"""

import io
from typing import Literal

import tifffile

Tag = Literal["orientation", "white is 0", "alpha"]
_CODES: dict[Tag, int] = {"orientation": 274, "white is 0": 262, "alpha": 338}
# Values by what takes their place: upright; black is 0; colours that are multiplied already.
_NEUTRAL: dict[Tag, dict[int, int]] = {
    "orientation": dict.fromkeys(range(2, 9), 1),
    "white is 0": {0: 1},
    "alpha": {2: 1},
}
_BYTES = {1: 1, 3: 2, 4: 4}  # of a value, by the TIFF's number of its type: byte, short, long


def neutralize(data: bytes, *tags: Tag) -> bytes:
    """The file's content with these tags of its first image neutral."""
    changed = bytearray(data)
    with tifffile.TiffFile(io.BytesIO(data)) as tiff:
        order: Literal["little", "big"] = "little" if tiff.byteorder == "<" else "big"
        for name in tags:
            tag = tiff.pages.first.tags.get(_CODES[name])
            if tag is None or (size := _BYTES.get(int(tag.dtype))) is None:
                continue
            end = tag.valueoffset + size * tag.count
            for at in range(tag.valueoffset, end if end <= len(data) else 0, size):  # of a damaged file none
                value = int.from_bytes(data[at : at + size], order)
                changed[at : at + size] = _NEUTRAL[name].get(value, value).to_bytes(size, order)
    return bytes(changed)
