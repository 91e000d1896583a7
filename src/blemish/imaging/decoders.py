"""Decode the content of an image file: what its header says, and its pixels as they are stored.

Any of DECODER_ERRORS means that the content cannot be read right; `explain` gives the reason.
"""

import io
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
import tifffile
from numpy.typing import NDArray
from PIL import Image, JpegImagePlugin, UnidentifiedImageError

from blemish.imaging.tiff_tags import neutralize

PNG = b"\x89PNG\r\n\x1a\n"
ORIENTATION = 0x0112  # EXIF
_TIFF = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")
DECODER_ERRORS = (OSError, ValueError, SyntaxError, IndexError, KeyError, TypeError, EOFError, OverflowError,
                  RuntimeError, ZeroDivisionError, zlib.error, cv2.error, Image.DecompressionBombError)  # fmt: skip


@dataclass(frozen=True, slots=True)
class StoredHeader:
    """Size, type and storage of the image in a file, in the frame in which it is stored."""

    kind: str  # "png", "jpeg", "tiff" or "other"
    height: int
    width: int
    channels: int
    bits: int
    dtype: str = "uint8"  # of the decoded pixels
    orientation: int = 1
    whole: bool = True  # False: the end is missing, or it would take long to know
    plain: bool = True  # OpenCV decodes it right
    picture: Any = None  # what Pillow or tifffile has opened
    alpha: bool = False


def parse_header(data: bytes) -> StoredHeader:
    if data.startswith(PNG):
        return _png_header(data)
    if data.startswith(b"\xff\xd8"):
        return _jpeg_header(data)
    if data.startswith(_TIFF):
        return _tiff_header(data)
    picture = Image.open(io.BytesIO(data))
    if (frames := getattr(picture, "n_frames", 1)) > 1:
        raise ValueError(_several(frames, "frames"))
    if picture.mode == "RGB" and (bits := _bits_of_colour(data, picture)) > 8:
        raise ValueError(f"its colours of {bits} bits would be cut to 8; save it as PNG or TIFF")
    deep = picture.mode in ("I", "F") or picture.mode.startswith("I;16")
    bits = 32 if picture.mode == "F" else 16 if deep else 8
    grey = deep or picture.mode in ("1", "L", "LA")
    orientation = picture.getexif().get(ORIENTATION, 1)
    channels = 1 if grey else 3
    dtype = {8: "uint8", 16: "uint16", 32: "float32"}[bits]
    return StoredHeader(
        "other", picture.height, picture.width, channels, bits, dtype, orientation, plain=False,
        alpha="A" in picture.mode or "transparency" in picture.info, picture=picture,
    )  # fmt: skip


def _bits_of_colour(data: bytes, picture: Image.Image) -> int:
    """Bits of a channel of a PPM or JPEG 2000, which Pillow reads as 8 where they are in colour; 8 of any other."""
    if picture.format == "PPM":
        top = picture.tile[0].args[-1] if isinstance(picture.tile[0].args, tuple) else 255  # type: ignore[attr-defined]
        return int(top).bit_length() if isinstance(top, int) else 8
    if picture.format == "JPEG2000":
        at, length = (data.find(b"ihdr"), 14) if data[4:8] == b"jP  " else (data.find(b"\xff\x51"), 40)
        return 1 + (data[at + length] & 127) if 0 <= at < len(data) - length else 8
    return 8


def png_size(data: bytes) -> tuple[int, int] | None:
    """Height and width that a PNG file claims; None where the content does not begin like a PNG."""
    if not data.startswith(PNG):
        return None
    return int.from_bytes(data[20:24], "big"), int.from_bytes(data[16:20], "big")


def exif_orientation(content: bytes) -> Any:
    """The orientation that a block of EXIF states; any value, 1 where there is none."""
    exif = Image.Exif()
    exif.load(content)
    return exif.get(ORIENTATION, 1)


def _png_header(data: bytes) -> StoredHeader:
    """Walk the chunks: size, colour type, orientation, and whether every chunk is there and unharmed."""
    size = png_size(data)
    if size is None or data[12:16] != b"IHDR" or len(data) < 33:
        raise ValueError("the PNG header is damaged")
    view, at, orientation, transparent = memoryview(data), 8, 1, False
    while True:
        length, kind = int.from_bytes(view[at : at + 4], "big"), data[at + 4 : at + 8]
        end = at + 12 + length
        if end > len(data):
            raise ValueError("the file is truncated")
        if zlib.crc32(view[at + 4 : end - 4]) != int.from_bytes(view[end - 4 : end], "big"):
            raise ValueError("the file is damaged (checksum of a PNG chunk does not match)")
        if kind == b"eXIf":
            orientation = exif_orientation(data[at + 8 : end - 4])
        if kind == b"acTL" and (frames := int.from_bytes(data[at + 8 : at + 12], "big")) > 1:
            raise ValueError(_several(frames, "frames"))
        transparent |= kind == b"tRNS"
        at = end
        if kind == b"IEND":
            break
    colour = data[25]  # 0 grey, 2 RGB, 3 palette, 4 grey + alpha, 6 RGB + alpha
    bits = 16 if data[24] == 16 else 8
    alpha = transparent or colour in (4, 6)
    return StoredHeader("png", *size, 1 if colour in (0, 4) else 3, bits, f"uint{bits}", orientation, alpha=alpha)


def _jpeg_header(data: bytes) -> StoredHeader:
    stream = io.BytesIO(data)
    picture = JpegImagePlugin.JpegImageFile(stream)  # not Image.open, whose own size limit is lower than ours
    whole = data.rfind(b"\xff\xd9") >= stream.tell()  # an end marker after the start of the scan, not a thumbnail's
    orientation = picture.getexif().get(ORIENTATION, 1) if "exif" in picture.info else 1
    channels = 1 if picture.mode == "L" else 3
    plain = picture.mode in ("L", "RGB")
    return StoredHeader("jpeg", picture.height, picture.width, channels, 8, "uint8", orientation, whole, plain, picture)


def _tiff_header(data: bytes) -> StoredHeader:
    """Size and depth of a TIFF of one image: of one page, or of pages that its metadata declare to be channels."""
    with tifffile.TiffFile(io.BytesIO(data)) as tiff:
        series, page = tiff.series[0], tiff.pages.first
        tag = page.tags.get(274)
        shape, axes = tuple(series.shape), str(series.axes)
        extra = len([kind for kind in page.extrasamples if int(kind) in (1, 2)])  # alpha
        pages = sum(not _is_preview(own) for own in tiff.pages) if len(tiff.pages) > 1 else 1
    if axes.count("Y") != 1 or axes.count("X") != 1:
        raise ValueError(
            f"a TIFF of axes {axes} and shape {shape} is not one image; save it as height, width, channels"
        )
    height, width = shape[axes.index("Y")], shape[axes.index("X")]
    rest = [axis for axis, length in zip(axes, shape, strict=True) if axis not in "YX" and length > 1]
    if len(rest) > 1 or (rest and rest[0] not in "SC") or (pages > 1 and "C" not in rest):
        layers = int(np.prod(shape)) // max(1, height * width)
        raise ValueError(_several(max(pages, layers if "S" not in axes else pages), "pages"))
    channels = int(np.prod(shape)) // max(1, height * width) - extra
    coloured = int(page.photometric) in (3, 5, 6, 8)  # palette, CMYK, YCbCr, Lab
    stored = np.dtype(page.dtype or np.uint8)
    dtype = "uint8" if coloured or stored.kind == "b" else str(stored) if stored in (np.uint8, np.uint16) else "float32"
    orientation = int(tag.value) if tag is not None else 1
    return StoredHeader(
        "tiff", height, width, 3 if coloured else channels, 8 * stored.itemsize, dtype, orientation,
        plain=not coloured, alpha=extra > 0,
    )  # fmt: skip


def _is_preview(page: Any) -> bool:
    """Whether a TIFF's page is a smaller copy, or the transparency, of another."""
    return bool(int(getattr(page, "subfiletype", 0)) & 5)


def _several(count: int, kind: str) -> str:
    return f"it holds {count} {kind}, which are not one image; save each of them as a file of its own"


def decode_content(data: bytes, header: StoredHeader) -> NDArray[Any]:
    if header.kind == "tiff":
        return _decode_tiff(data, header)
    if not (header.whole and header.plain):  # Pillow is slower, but strict about missing data
        return _decode_pillow(header.picture)
    depth = cv2.IMREAD_ANYDEPTH | cv2.IMREAD_IGNORE_ORIENTATION
    colour = cv2.IMREAD_GRAYSCALE if header.channels == 1 else cv2.IMREAD_COLOR
    image = cv2.imdecode(np.frombuffer(data, np.uint8), colour | depth)
    if image is None:
        raise ValueError("the file is damaged")
    return image[..., None] if image.ndim == 2 else cv2.cvtColor(image, cv2.COLOR_BGR2RGB)


def _decode_pillow(picture: Image.Image) -> NDArray[Any]:
    picture.load()
    if picture.mode == "F":
        return np.asarray(picture, np.float32)[..., None]
    if picture.mode == "I" or picture.mode.startswith("I;16"):
        image = np.asarray(picture)[..., None]
        fits = image.min(initial=0) >= 0 and image.max(initial=0) <= 65535  # Pillow widens 16 bits to 32
        return image.astype(np.uint16 if fits else np.float32)
    mode = "L" if picture.mode in ("1", "L", "LA") else "RGB"
    image = np.asarray(picture.convert(mode))
    return image[..., None] if image.ndim == 2 else image


def _decode_tiff(data: bytes, header: StoredHeader) -> NDArray[Any]:
    if not header.plain:
        with Image.open(io.BytesIO(neutralize(data, "orientation"))) as picture:
            return _decode_pillow(picture)
    with tifffile.TiffFile(io.BytesIO(data)) as tiff:
        series, page = tiff.series[0], tiff.pages.first
        axes, inverted, stored = str(series.axes), int(page.photometric) == 0, np.dtype(page.dtype or np.uint8)
        if inverted and (stored.kind not in "ub" or page.bitspersample not in (1, 2, 4, 8, 16)):
            raise ValueError(f"its 0 is white, and where black is in {stored} is not known; save it with 0 as black")
        try:
            image = series.asarray()
        except (ValueError, RuntimeError, ImportError) as error:
            if not isinstance(error, ImportError) and "imagecodecs" not in str(error):
                raise
            image = None  # a codec that only OpenCV has here, such as LZW
    if image is None:
        image = _decode_tiff_by_opencv(data, header, stored)
        image = _unscale(image, page.bitspersample)
    else:
        rest = [i for i, axis in enumerate(axes) if axis not in "YX"]
        image = image.transpose(axes.index("Y"), axes.index("X"), *rest)
        image = image.reshape(header.height, header.width, -1)[..., : header.channels]
    image = _known_depth(image)
    return np.iinfo(image.dtype).max - image if inverted else image


def _decode_tiff_by_opencv(data: bytes, header: StoredHeader, stored: np.dtype[Any]) -> NDArray[Any]:
    """The pixels (H, W, C) as stored, without alpha; ValueError where OpenCV would change them."""
    plain = neutralize(data, "orientation", "white is 0", "alpha")
    image = cv2.imdecode(np.frombuffer(plain, np.uint8), cv2.IMREAD_UNCHANGED)
    if image is None or image.shape[:2] != (header.height, header.width):
        raise ValueError("its TIFF compression is not understood; save it uncompressed, or with LZW or deflate")
    image = image[..., None] if image.ndim == 2 else cv2.cvtColor(image[..., :3].copy(), cv2.COLOR_BGR2RGB)
    if image.shape[2] != header.channels or image.dtype != (np.uint8 if stored.kind == "b" else stored):
        raise ValueError(
            f"{header.channels} channels of {stored} are not understood in its TIFF compression; save it uncompressed"
        )
    return image


def _unscale(image: NDArray[Any], bits: int | Sequence[int]) -> NDArray[Any]:
    """Packed values of 9 to 15 bits as stored: OpenCV moves them to the upper bits of 16."""
    own = bits if isinstance(bits, int) else max(bits)
    spare = 8 * image.dtype.itemsize - own
    if image.dtype != np.uint16 or spare <= 0:
        return image
    if (image & ((1 << spare) - 1)).any():
        raise ValueError(f"its {own} bits are not understood in its TIFF compression; save it as 8 or 16 bit")
    return image >> spare


def _known_depth(image: NDArray[Any]) -> NDArray[Any]:
    """One of uint8, uint16, float32 at the same values; ValueError where there is no such."""
    if image.dtype == bool:
        return image.astype(np.uint8) * 255
    if image.dtype in (np.uint8, np.uint16):
        return image.astype(image.dtype.newbyteorder("="), copy=False)
    if image.dtype.kind not in "fiu":
        raise ValueError(f"its pixels are {image.dtype}; save it as 8 or 16 bit, or as float")
    return image.astype(np.float32)


def explain(error: BaseException) -> str:
    if isinstance(error, UnidentifiedImageError):
        return "the content is of no known image format"
    if isinstance(error, cv2.error):
        return "the file is damaged"
    if "truncated" in str(error).lower():
        return "the file is truncated"
    return (" ".join(str(error).split()) or type(error).__name__)[:200]
