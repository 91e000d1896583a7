"""Reading and writing image files. The content of a file decides its type, never its name."""

import io
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import tifffile
from numpy.typing import NDArray
from PIL import Image, ImageOps, JpegImagePlugin, UnidentifiedImageError

from blemish.arrays import Mask
from blemish.errors import ImageError
from blemish.files import write_atomic

IMAGE_SUFFIXES = (".png", ".jpg", ".jpeg", ".bmp", ".tif", ".tiff", ".webp", ".pgm", ".ppm", ".jp2", ".gif")
MAX_PIXELS = 250_000_000
BYTES_A_PIXEL = 4  # of an image of as many pixels as are allowed: one of more channels or bits must have fewer

_PNG = b"\x89PNG\r\n\x1a\n"
_TIFF = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")
_DECODER_ERRORS = (OSError, ValueError, SyntaxError, IndexError, KeyError, TypeError, EOFError, OverflowError,
                   RuntimeError, ZeroDivisionError, zlib.error, cv2.error, Image.DecompressionBombError)  # fmt: skip
# EXIF orientation -> the steps that turn the image upright.
_UPRIGHT = {
    2: lambda a: a[:, ::-1],
    3: lambda a: a[::-1, ::-1],
    4: lambda a: a[::-1],
    5: lambda a: a.swapaxes(0, 1),
    6: lambda a: a.swapaxes(0, 1)[:, ::-1],
    7: lambda a: a.swapaxes(0, 1)[::-1, ::-1],
    8: lambda a: a.swapaxes(0, 1)[::-1],
}


@dataclass(frozen=True, slots=True)
class ImageHeader:
    """Size of an image as `read_image` gives it, and its bits per channel."""

    height: int
    width: int
    channels: int
    bits: int

    @property
    def size(self) -> tuple[int, int]:
        """Height and width."""
        return self.height, self.width


@dataclass(frozen=True, slots=True)
class _Header:
    kind: str  # "png", "jpeg", "tiff" or "other"
    height: int  # as stored, before the orientation is applied
    width: int
    channels: int
    bits: int
    orientation: int = 1
    whole: bool = True  # False: the end is missing, or it would take long to know
    plain: bool = True  # OpenCV decodes it right
    picture: Any = None  # what Pillow or tifffile has opened


def read_image(path: str | Path, max_pixels: int = MAX_PIXELS) -> NDArray[Any]:
    """Image as (H, W, C) uint8, uint16 or float32; RGB order, upright, without alpha; grey has C = 1.

    Raises ImageError for a file that is missing, damaged, no image, or larger than `max_pixels`.
    """
    data = _bytes(path)
    try:
        header = _header(data)
        _check_size(path, header, max_pixels)
        image = _decode(data, header)
    except _DECODER_ERRORS as error:
        raise ImageError(f"cannot read image {path}: {_one_line(error)}") from error
    image = _UPRIGHT[header.orientation](image) if header.orientation in _UPRIGHT else image
    return np.ascontiguousarray(image)


def read_mask(path: str | Path, size: tuple[int, int] | None = None) -> Mask:
    """Mask as (H, W) bool: True above half of full scale, or above 0 where the file holds only 0 and 1.

    With `size` (height, width) a mask of another size is an ImageError.
    """
    values = read_image(path)
    values = values[..., 0] if values.shape[2] == 1 else values.max(axis=2)
    if size is not None:
        check_mask_size(path, values.shape, size)
    top = float(values.max())
    if top <= 1:
        return np.asarray(values > (0.5 if values.dtype == np.float32 else 0))
    return np.asarray(values > (127 if top <= 255 else 32767))


def check_mask_size(path: str | Path, shape: tuple[int, ...], size: tuple[int, int]) -> None:
    """ImageError where a mask's shape (height, width) is not the size of its image."""
    if shape != size:
        raise ImageError(
            f"mask {path} has {shape[1]}×{shape[0]} pixels, its image {size[1]}×{size[0]}; make them the same size"
        )


def image_header(path: str | Path) -> ImageHeader:
    """Size and depth without decoding; raises ImageError like `read_image`."""
    try:
        data = _bytes(path)
        header = _header(data)
    except _DECODER_ERRORS as error:
        raise ImageError(f"cannot read image {path}: {_one_line(error)}") from error
    height, width = (header.height, header.width) if header.orientation < 5 else (header.width, header.height)
    return ImageHeader(height, width, header.channels, header.bits)


def encode(image: NDArray[Any], suffix: str) -> bytes:
    """Image (H, W) or (H, W, C), bool, uint8, uint16 or (TIFF only) float32, as a file's content."""
    image = image.astype(np.uint8) * 255 if image.dtype == bool else image
    image = image[..., 0] if image.ndim == 3 and image.shape[2] == 1 else image
    channels = image.shape[2] if image.ndim == 3 else 1
    suffix = suffix.lower()
    if suffix in (".tif", ".tiff"):
        stream = io.BytesIO()
        photometric = "rgb" if channels == 3 else "minisblack"
        tifffile.imwrite(
            stream, image, photometric=photometric, planarconfig="contig" if channels > 1 else None, compression="zlib"
        )
        return stream.getvalue()
    if image.dtype not in ((np.uint8, np.uint16) if suffix == ".png" else (np.uint8,)) or channels not in (1, 3):
        raise ImageError(f"{suffix} cannot hold {channels} channels of {image.dtype}; write a .tif instead")
    try:
        done, buffer = cv2.imencode(suffix, image if channels == 1 else cv2.cvtColor(image, cv2.COLOR_RGB2BGR))
    except cv2.error as error:
        raise ImageError(f"cannot write images of type {suffix!r}; take .png, .jpg or .tif") from error
    if not done:
        raise ImageError(f"cannot encode an image of shape {image.shape} as {suffix}")
    return bytes(buffer.tobytes())


def write_image(path: str | Path, image: NDArray[Any]) -> None:
    """Write an image as PNG, JPEG or TIFF by the path's suffix; folders are made."""
    path = Path(path)
    write_atomic(path, encode(image, path.suffix))


def _bytes(path: str | Path) -> bytes:
    try:
        data = Path(path).read_bytes()
    except OSError as error:
        raise ImageError(f"cannot read image {path}: {(error.strerror or str(error)).lower()}") from error
    if not data:
        raise ImageError(f"cannot read image {path}: the file is empty")
    return data


def _check_size(path: str | Path, header: _Header, max_pixels: int) -> None:
    if header.height < 1 or header.width < 1:
        raise ImageError(f"cannot read image {path}: it has no pixels")
    if header.height * header.width > max_pixels:
        raise ImageError(
            f"image {path} claims {header.width}×{header.height} pixels, more than the limit of {max_pixels:,}; "
            "cut it into smaller ones"
        )
    unpacked = header.height * header.width * header.channels * max(8, header.bits) // 8
    if unpacked > BYTES_A_PIXEL * max_pixels:
        raise ImageError(
            f"image {path} claims {header.channels} channels of {header.bits} bits, {unpacked:,} bytes in all, "
            f"more than the limit of {BYTES_A_PIXEL * max_pixels:,}; cut it into smaller ones"
        )


def _header(data: bytes) -> _Header:
    if data.startswith(_PNG):
        return _png_header(data)
    if data.startswith(b"\xff\xd8"):
        return _jpeg_header(data)
    if data.startswith(_TIFF):
        return _tiff_header(data)
    picture = Image.open(io.BytesIO(data))
    deep = picture.mode in ("I", "F") or picture.mode.startswith("I;16")
    bits = 32 if picture.mode == "F" else 16 if deep else 8
    grey = deep or picture.mode in ("1", "L", "LA")
    orientation = picture.getexif().get(0x0112, 1)
    channels = 1 if grey else 3
    return _Header("other", picture.height, picture.width, channels, bits, orientation, plain=False, picture=picture)


def png_size(data: bytes) -> tuple[int, int] | None:
    """Height and width that a PNG file claims; None where the content does not begin like a PNG."""
    if not data.startswith(_PNG):
        return None
    return int.from_bytes(data[20:24], "big"), int.from_bytes(data[16:20], "big")


def _png_header(data: bytes) -> _Header:
    """Walk the chunks: size, colour type, orientation, and whether every chunk is there and unharmed."""
    size = png_size(data)
    if size is None or data[12:16] != b"IHDR" or len(data) < 33:
        raise ValueError("the PNG header is damaged")
    view, at, orientation = memoryview(data), 8, 1
    while True:
        length, kind = int.from_bytes(view[at : at + 4], "big"), data[at + 4 : at + 8]
        end = at + 12 + length
        if end > len(data):
            raise ValueError("the file is truncated")
        if zlib.crc32(view[at + 4 : end - 4]) != int.from_bytes(view[end - 4 : end], "big"):
            raise ValueError("the file is damaged (checksum of a PNG chunk does not match)")
        if kind == b"eXIf":
            exif = Image.Exif()
            exif.load(data[at + 8 : end - 4])
            orientation = exif.get(0x0112, 1)
        at = end
        if kind == b"IEND":
            break
    colour = data[25]  # 0 grey, 2 RGB, 3 palette, 4 grey + alpha, 6 RGB + alpha
    return _Header("png", *size, 1 if colour in (0, 4) else 3, 16 if data[24] == 16 else 8, orientation)


def _jpeg_header(data: bytes) -> _Header:
    stream = io.BytesIO(data)
    picture = JpegImagePlugin.JpegImageFile(stream)  # not Image.open, whose own size limit is lower than ours
    whole = data.rfind(b"\xff\xd9") >= stream.tell()  # an end marker after the start of the scan, not a thumbnail's
    orientation = picture.getexif().get(0x0112, 1) if "exif" in picture.info else 1
    channels = 1 if picture.mode == "L" else 3
    plain = picture.mode in ("L", "RGB")
    return _Header("jpeg", picture.height, picture.width, channels, 8, orientation, whole, plain, picture)


def _tiff_header(data: bytes) -> _Header:
    with tifffile.TiffFile(io.BytesIO(data)) as tiff:
        series, page = tiff.series[0], tiff.pages.first
        tag = page.tags.get(274)
        shape, axes = tuple(series.shape), str(series.axes)
        extra = len([kind for kind in page.extrasamples if int(kind) in (1, 2)])  # alpha
    if axes.count("Y") != 1 or axes.count("X") != 1 or len(axes) > 3:
        raise ValueError(
            f"a TIFF of axes {axes} and shape {shape} is not one image; save it as height, width, channels"
        )
    height, width = shape[axes.index("Y")], shape[axes.index("X")]
    channels = int(np.prod(shape)) // max(1, height * width) - extra
    coloured = int(page.photometric) in (3, 5, 6, 8)  # palette, CMYK, YCbCr, Lab
    bits = 8 * np.dtype(page.dtype or np.uint8).itemsize
    orientation = int(tag.value) if tag is not None else 1
    return _Header("tiff", height, width, 3 if coloured else channels, bits, orientation, True, not coloured)


def _decode(data: bytes, header: _Header) -> NDArray[Any]:
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
        return _known_depth(np.asarray(picture))[..., None]
    mode = "L" if picture.mode in ("1", "L", "LA") else "RGB"
    image = np.asarray(picture.convert(mode))
    return image[..., None] if image.ndim == 2 else image


def _decode_tiff(data: bytes, header: _Header) -> NDArray[Any]:
    if not header.plain:
        with Image.open(io.BytesIO(data)) as picture:
            return _turned_back(_decode_pillow(ImageOps.exif_transpose(picture)), header.orientation)
    with tifffile.TiffFile(io.BytesIO(data)) as tiff:
        series, page = tiff.series[0], tiff.pages.first
        axes, inverted = str(series.axes), int(page.photometric) == 0
        try:
            image = series.asarray()
        except (ValueError, RuntimeError) as error:
            if "imagecodecs" not in str(error):  # not a matter of a codec that only OpenCV has here, such as LZW
                raise
            return _decode_tiff_by_opencv(data, header)
    rest = [i for i, axis in enumerate(axes) if axis not in "YX"]
    image = image.transpose(axes.index("Y"), axes.index("X"), *rest)
    image = _known_depth(image.reshape(header.height, header.width, -1)[..., : header.channels])
    return np.iinfo(image.dtype).max - image if inverted and image.dtype != np.float32 else image


def _decode_tiff_by_opencv(data: bytes, header: _Header) -> NDArray[Any]:
    image = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_UNCHANGED)
    if image is None or image.shape[:2] != (header.height, header.width):
        raise ValueError("its TIFF compression is not understood; save it uncompressed, or with LZW or deflate")
    if image.ndim == 2:
        return _known_depth(image[..., None])
    return _known_depth(cv2.cvtColor(image[..., :3].copy(), cv2.COLOR_BGR2RGB))


def _turned_back(image: NDArray[Any], orientation: int) -> NDArray[Any]:
    """Undo an orientation that is applied to every image at the end."""
    inverse = {6: 8, 8: 6}.get(orientation, orientation)
    return _UPRIGHT[inverse](image) if inverse in _UPRIGHT else image


def _known_depth(image: NDArray[Any]) -> NDArray[Any]:
    """One of uint8, uint16, float32; ValueError where that would lose or invent something."""
    if image.dtype == bool:
        return image.astype(np.uint8) * 255
    if image.dtype.kind == "f":
        return image.astype(np.float32)
    if image.dtype in (np.uint8, np.uint16):
        return image.astype(image.dtype.newbyteorder("="), copy=False)
    if image.size and (image.min() < 0 or image.max() > 65535):
        raise ValueError(
            f"its pixels are {image.dtype} beyond 16 bits; save it as 8 or 16 bit, or as float from 0 to 1"
        )
    return image.astype(np.uint16)


def _one_line(error: BaseException) -> str:
    if isinstance(error, UnidentifiedImageError):
        return "the content is of no known image format"
    if isinstance(error, cv2.error):
        return "the file is damaged"
    if "truncated" in str(error).lower():
        return "the file is truncated"
    return (" ".join(str(error).split()) or type(error).__name__)[:200]
