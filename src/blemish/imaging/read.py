"""Reading and writing image files. The content of a file decides its type, never its name."""

import io
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import cv2
import numpy as np
import tifffile
from numpy.typing import NDArray
from PIL import Image, JpegImagePlugin, UnidentifiedImageError

from blemish.arrays import Mask, Points
from blemish.errors import ImageError, MaskError
from blemish.files import write_atomic
from blemish.imaging.mask_values import marked_pixels
from blemish.imaging.tiff_tags import neutralize

IMAGE_SUFFIXES = (
    ".png", ".jpg", ".jpeg", ".jfif", ".jpe", ".bmp", ".tif", ".tiff", ".webp", ".jp2", ".pgm", ".ppm", ".pnm", ".pbm",
    ".gif",
)  # fmt: skip
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
    """Size of an image as `read_image` gives it (upright), its bits per channel, and how it is stored."""

    height: int
    width: int
    channels: int
    bits: int
    dtype: str = "uint8"  # of the pixels that `read_image` gives: uint8, uint16 or float32
    orientation: int = 1  # EXIF: 1 is stored upright; 5 to 8 are stored with width and height exchanged

    @property
    def size(self) -> tuple[int, int]:
        """Height and width."""
        return self.height, self.width

    @property
    def stored_size(self) -> tuple[int, int]:
        """Height and width as stored, before the orientation is applied."""
        return self.size if self.orientation < 5 else (self.width, self.height)

    def to_upright(self, points: NDArray[Any]) -> Points:
        """Points (..., 2), x y at pixel edges, from the stored frame to the upright one of `read_image`."""
        height, width = self.stored_size
        points = np.asarray(points, np.float64)
        x, y = points[..., 0], points[..., 1]
        turned = {
            2: (width - x, y),
            3: (width - x, height - y),
            4: (x, height - y),
            5: (y, x),
            6: (height - y, x),
            7: (height - y, width - x),
            8: (y, width - x),
        }
        return np.stack(turned.get(self.orientation, (x, y)), axis=-1)


@dataclass(frozen=True, slots=True)
class _Header:
    kind: str  # "png", "jpeg", "tiff" or "other"
    height: int  # as stored, before the orientation is applied
    width: int
    channels: int
    bits: int
    dtype: str = "uint8"  # of the decoded pixels
    orientation: int = 1
    whole: bool = True  # False: the end is missing, or it would take long to know
    plain: bool = True  # OpenCV decodes it right
    picture: Any = None  # what Pillow or tifffile has opened
    alpha: bool = False


def read_image(path: str | Path, max_pixels: int = MAX_PIXELS) -> NDArray[Any]:
    """Image as (H, W, C) uint8, uint16 or float32; RGB order, upright, without alpha; grey has C = 1.

    Whole numbers that are signed or of more than 16 bits become float32, at their own values. Raises ImageError for a
    file that is missing, damaged, no image, several images (pages, an animation), or larger than `max_pixels`.
    """
    return _read(path, max_pixels)[0]


def read_mask(path: str | Path, size: tuple[int, int] | None = None, image: Path | None = None) -> Mask:
    """Mask as (H, W) bool, by the rule of `blemish.imaging.mask_values`; of transparent pictures, the alpha counts too.

    With `size` (height, width) a mask of another size is an ImageError, unless it was made in the stored frame of
    `image`, which EXIF turns: then it is turned likewise. Values that do not say what is marked are a MaskError.
    """
    pixels, header, data = _read(path, MAX_PIXELS)
    values = pixels[..., 0] if pixels.shape[2] == 1 else pixels.max(axis=2)
    try:
        values = _with_alpha(values, data, header) if header.alpha else values
        mask = _brighter_palette_colour(values, data)
        mask = marked_pixels(values) if mask is None else mask
        if pixels.shape[2] > 1 and mask.all() and (pixels != pixels[:1, :1]).any():
            raise ValueError("all of its colours are bright, and do not say what is marked; save the others as black")
    except ValueError as error:
        raise MaskError(f"mask {path}: {error}") from error
    except _DECODER_ERRORS as error:
        raise ImageError(f"cannot read mask {path}: {_one_line(error)}") from error
    if size is not None:
        mask = mask if image is None else turn_like_image(mask, size, image, path)
        check_mask_size(path, mask.shape, size)
    return mask


def turn_like_image(mask: NDArray[Any], size: tuple[int, int], image: Path, path: str | Path) -> NDArray[Any]:
    """A mask (H, W) upright, where its size says that it was made in the frame in which `image` is stored.

    `size` is that of the upright image. A mask file at `path` that has an orientation of its own is upright already.
    """
    if mask.shape == size or mask.shape != size[::-1]:
        return mask
    orientation = read_orientation(image)
    if orientation < 5 or read_orientation(path) != 1:
        return mask
    return np.ascontiguousarray(_UPRIGHT[orientation](mask))


def has_clear_frame(mask: Path, image: Path) -> bool:
    """Whether it is known which way up a mask is: not so where EXIF turns its image, but not the mask, and their sizes
    are the same both ways (orientations 2, 3 and 4, and square images)."""
    orientation = read_orientation(image)
    if orientation == 1 or read_orientation(mask) != 1:
        return True
    height, width = image_header(mask).size
    return orientation >= 5 and height != width


def read_orientation(path: str | Path) -> int:
    """EXIF orientation, 1 to 8, from the head of a file; 1 where there is none or the file cannot be read."""
    try:
        with Path(path).open("rb") as file:
            if file.read(8) == _PNG:
                return _valid_orientation(_png_orientation(file))
        with Image.open(path) as picture:
            return _valid_orientation(picture.getexif().get(0x0112, 1))
    except _DECODER_ERRORS:
        return 1


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
    orientation = _valid_orientation(header.orientation)
    height, width = (header.height, header.width) if orientation < 5 else (header.width, header.height)
    return ImageHeader(height, width, header.channels, header.bits, header.dtype, orientation)


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


def _read(path: str | Path, max_pixels: int) -> tuple[NDArray[Any], _Header, bytes]:
    """The upright image (H, W, C), the file's header and its content."""
    data = _bytes(path)
    try:
        header = _header(data)
        _check_size(path, header, max_pixels)
        image = _decode(data, header)
    except _DECODER_ERRORS as error:
        raise ImageError(f"cannot read image {path}: {_one_line(error)}") from error
    image = _UPRIGHT[header.orientation](image) if header.orientation in _UPRIGHT else image
    return np.ascontiguousarray(image), header, data


def _with_alpha(values: NDArray[Any], data: bytes, header: _Header) -> NDArray[Any]:
    """A mask's values (H, W) where it is opaque, 0 where it is not; its alpha alone where it has one colour."""
    data = neutralize(data, "orientation") if header.kind == "tiff" else data  # by which Pillow turns TIFF alone
    with Image.open(io.BytesIO(data)) as picture:
        alpha = np.asarray(picture.convert("RGBA").getchannel("A"))
    alpha = _UPRIGHT[header.orientation](alpha) if header.orientation in _UPRIGHT else alpha
    if alpha.shape != values.shape or alpha.min() == alpha.max():
        return values
    if values.min() == values.max():
        return alpha
    return np.asarray(np.rint(values * (alpha / 255.0)), values.dtype if values.dtype.kind == "u" else np.float32)


def _brighter_palette_colour(values: NDArray[Any], data: bytes) -> Mask | None:
    """The pixels (H, W) of the brighter colour of a palette of two; None for any other picture."""
    top = values.max(initial=0)
    if not 1 < top < 128:  # the common case: nothing to look up
        return None
    with Image.open(io.BytesIO(data)) as picture:
        if picture.mode != "P" or picture.palette is None:
            return None
        colours = np.frombuffer(bytes(picture.getpalette("RGB") or ()), np.uint8).reshape(-1, 3).max(axis=1)
    if len(colours) != 2 or colours[0] == colours[1]:
        return None
    return np.asarray(values == colours.max())


def _valid_orientation(value: Any) -> int:
    return int(value) if value in _UPRIGHT else 1


def _png_orientation(file: BinaryIO) -> int:
    """The orientation in a PNG file whose signature was read; chunks of pixels are passed over."""
    while len(head := file.read(8)) == 8 and head[4:] != b"IEND":
        length = int.from_bytes(head[:4], "big")
        if head[4:] == b"eXIf":
            exif = Image.Exif()
            exif.load(file.read(length))
            return int(exif.get(0x0112, 1))
        file.seek(length + 4, io.SEEK_CUR)
    return 1


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
    if (frames := getattr(picture, "n_frames", 1)) > 1:
        raise ValueError(_several(frames, "frames"))
    if picture.mode == "RGB" and (bits := _bits_of_colour(data, picture)) > 8:
        raise ValueError(f"its colours of {bits} bits would be cut to 8; save it as PNG or TIFF")
    deep = picture.mode in ("I", "F") or picture.mode.startswith("I;16")
    bits = 32 if picture.mode == "F" else 16 if deep else 8
    grey = deep or picture.mode in ("1", "L", "LA")
    orientation = picture.getexif().get(0x0112, 1)
    channels = 1 if grey else 3
    dtype = {8: "uint8", 16: "uint16", 32: "float32"}[bits]
    return _Header(
        "other", picture.height, picture.width, channels, bits, dtype, orientation, plain=False,
        alpha=_has_alpha(picture), picture=picture,
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
    if not data.startswith(_PNG):
        return None
    return int.from_bytes(data[20:24], "big"), int.from_bytes(data[16:20], "big")


def _png_header(data: bytes) -> _Header:
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
            exif = Image.Exif()
            exif.load(data[at + 8 : end - 4])
            orientation = exif.get(0x0112, 1)
        if kind == b"acTL" and (frames := int.from_bytes(data[at + 8 : at + 12], "big")) > 1:
            raise ValueError(_several(frames, "frames"))
        transparent |= kind == b"tRNS"
        at = end
        if kind == b"IEND":
            break
    colour = data[25]  # 0 grey, 2 RGB, 3 palette, 4 grey + alpha, 6 RGB + alpha
    bits = 16 if data[24] == 16 else 8
    alpha = transparent or colour in (4, 6)
    return _Header("png", *size, 1 if colour in (0, 4) else 3, bits, f"uint{bits}", orientation, alpha=alpha)


def _jpeg_header(data: bytes) -> _Header:
    stream = io.BytesIO(data)
    picture = JpegImagePlugin.JpegImageFile(stream)  # not Image.open, whose own size limit is lower than ours
    whole = data.rfind(b"\xff\xd9") >= stream.tell()  # an end marker after the start of the scan, not a thumbnail's
    orientation = picture.getexif().get(0x0112, 1) if "exif" in picture.info else 1
    channels = 1 if picture.mode == "L" else 3
    plain = picture.mode in ("L", "RGB")
    return _Header("jpeg", picture.height, picture.width, channels, 8, "uint8", orientation, whole, plain, picture)


def _tiff_header(data: bytes) -> _Header:
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
    return _Header(
        "tiff", height, width, 3 if coloured else channels, 8 * stored.itemsize, dtype, orientation,
        plain=not coloured, alpha=extra > 0,
    )  # fmt: skip


def _is_preview(page: Any) -> bool:
    """Whether a TIFF's page is a smaller copy, or the transparency, of another."""
    return bool(int(getattr(page, "subfiletype", 0)) & 5)


def _several(count: int, kind: str) -> str:
    return f"it holds {count} {kind}, which are not one image; save each of them as a file of its own"


def _has_alpha(picture: Image.Image) -> bool:
    return "A" in picture.mode or "transparency" in picture.info


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
        image = np.asarray(picture)[..., None]
        fits = image.min(initial=0) >= 0 and image.max(initial=0) <= 65535  # Pillow widens 16 bits to 32
        return image.astype(np.uint16 if fits else np.float32)
    mode = "L" if picture.mode in ("1", "L", "LA") else "RGB"
    image = np.asarray(picture.convert(mode))
    return image[..., None] if image.ndim == 2 else image


def _decode_tiff(data: bytes, header: _Header) -> NDArray[Any]:
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


def _decode_tiff_by_opencv(data: bytes, header: _Header, stored: np.dtype[Any]) -> NDArray[Any]:
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


def _one_line(error: BaseException) -> str:
    if isinstance(error, UnidentifiedImageError):
        return "the content is of no known image format"
    if isinstance(error, cv2.error):
        return "the file is damaged"
    if "truncated" in str(error).lower():
        return "the file is truncated"
    return (" ".join(str(error).split()) or type(error).__name__)[:200]
