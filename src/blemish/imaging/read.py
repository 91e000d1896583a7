"""Reading and writing image files. The content of a file decides its type, never its name."""

import io
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import cv2
import numpy as np
import tifffile
from numpy.typing import NDArray
from PIL import Image

from blemish.arrays import Mask, Points
from blemish.errors import ImageError, MaskError
from blemish.files import write_atomic
from blemish.imaging.decoders import (
    DECODER_ERRORS,
    ORIENTATION,
    PNG,
    StoredHeader,
    decode_content,
    exif_orientation,
    explain,
    parse_header,
)
from blemish.imaging.mask_values import marked_pixels
from blemish.imaging.tiff_tags import neutralize

IMAGE_SUFFIXES = (
    ".png", ".jpg", ".jpeg", ".jfif", ".jpe", ".bmp", ".tif", ".tiff", ".webp", ".jp2", ".pgm", ".ppm", ".pnm", ".pbm",
    ".gif",
)  # fmt: skip
MAX_PIXELS = 250_000_000
BYTES_A_PIXEL = 4  # of an image of as many pixels as are allowed: one of more channels or bits must have fewer

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
    except DECODER_ERRORS as error:
        raise ImageError(f"cannot read mask {path}: {explain(error)}") from error
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
    return np.ascontiguousarray(_turn_upright(mask, orientation))


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
            if file.read(8) == PNG:
                return _valid_orientation(_png_orientation(file))
        with Image.open(path) as picture:
            return _valid_orientation(picture.getexif().get(ORIENTATION, 1))
    except DECODER_ERRORS:
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
        header = parse_header(data)
    except DECODER_ERRORS as error:
        raise ImageError(f"cannot read image {path}: {explain(error)}") from error
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


def _read(path: str | Path, max_pixels: int) -> tuple[NDArray[Any], StoredHeader, bytes]:
    """The upright image (H, W, C), the file's header and its content."""
    data = _bytes(path)
    try:
        header = parse_header(data)
        _check_size(path, header, max_pixels)
        image = decode_content(data, header)
    except DECODER_ERRORS as error:
        raise ImageError(f"cannot read image {path}: {explain(error)}") from error
    return np.ascontiguousarray(_turn_upright(image, header.orientation)), header, data


def _with_alpha(values: NDArray[Any], data: bytes, header: StoredHeader) -> NDArray[Any]:
    """A mask's values (H, W) where it is opaque, 0 where it is not; its alpha alone where it has one colour."""
    data = neutralize(data, "orientation") if header.kind == "tiff" else data  # by which Pillow turns TIFF alone
    with Image.open(io.BytesIO(data)) as picture:
        alpha = _turn_upright(np.asarray(picture.convert("RGBA").getchannel("A")), header.orientation)
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


def _turn_upright(pixels: NDArray[Any], orientation: int) -> NDArray[Any]:
    return _UPRIGHT[orientation](pixels) if orientation in _UPRIGHT else pixels


def _valid_orientation(value: Any) -> int:
    return int(value) if value in _UPRIGHT else 1


def _png_orientation(file: BinaryIO) -> int:
    """The orientation in a PNG file whose signature was read; chunks of pixels are passed over."""
    while len(head := file.read(8)) == 8 and head[4:] != b"IEND":
        length = int.from_bytes(head[:4], "big")
        if head[4:] == b"eXIf":
            return int(exif_orientation(file.read(length)))
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


def _check_size(path: str | Path, header: StoredHeader, max_pixels: int) -> None:
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
