"""Raw pixels of industrial cameras as images, by the names of the Pixel Format Naming Convention (EMVA, PFNC).

Values of more than 8 bits become the upper bits of uint16, so that brightness does not depend on the bit depth. Bayer
mosaics are interpolated bilinearly. Packed formats are those of PFNC (`Mono12p`: a stream of bits, lowest first) and of
GigE Vision (`Mono12Packed`: two pixels in three bytes).
"""

import re
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from blemish.errors import ImageError

_NAME = re.compile(r"(Mono|BayerRG|BayerGR|BayerGB|BayerBG|RGB|BGR)(8|10|12|16)(p|Packed)?")
# Position of red in the 2×2 cell, as row and column; blue is diagonally opposite.
_RED = {"BayerRG": (0, 0), "BayerGR": (0, 1), "BayerGB": (1, 0), "BayerBG": (1, 1)}
_GREEN_KERNEL = np.array([[0, 1, 0], [1, 4, 1], [0, 1, 0]], np.float32) / 4
_COLOUR_KERNEL = np.array([[1, 2, 1], [2, 4, 2], [1, 2, 1]], np.float32) / 4


def decode_pixels(data: bytes, pixel_format: str, height: int, width: int) -> NDArray[Any]:
    """Raw data as (H, W, C) uint8 or uint16, RGB or grey; raises ImageError for too few bytes or another format."""
    kind, bits, packing = _parse(pixel_format)
    channels = 3 if kind in ("RGB", "BGR") else 1
    values = _unpack(np.frombuffer(data, np.uint8), bits, packing, height * width * channels)
    image = values.reshape(height, width, channels)
    if kind == "BGR":
        image = np.ascontiguousarray(image[..., ::-1])
    elif kind in _RED:
        image = demosaic(image[..., 0], kind)
    return image


def frame_bytes(pixel_format: str, height: int, width: int) -> int:
    """Bytes of a whole frame; raises ImageError for a format that is not known."""
    kind, bits, packing = _parse(pixel_format)
    values = height * width * (3 if kind in ("RGB", "BGR") else 1)
    return _bytes(values, bits, packing)


def _parse(name: str) -> tuple[str, int, str]:
    match = _NAME.fullmatch(name)
    kind, bits, packing = match.groups(default="") if match else ("", "0", "")
    if packing == "Packed" and (kind in ("RGB", "BGR") or bits == "8"):
        packing = "" if bits == "8" else packing  # RGB8Packed is an older name of RGB8
    unknown = match is None or (packing and bits not in ("10", "12")) or (packing and kind in ("RGB", "BGR"))
    if unknown:
        raise ImageError(f"pixel format {name} is not supported; set Mono, Bayer or RGB of 8, 10, 12 or 16 bits")
    return kind, int(bits), packing


def _bytes(values: int, bits: int, packing: str) -> int:
    if packing == "p":
        return -(-values * bits // 8)
    return -(-values * 3 // 2) if packing == "Packed" else values * (1 if bits == 8 else 2)


def _unpack(data: NDArray[np.uint8], bits: int, packing: str, count: int) -> NDArray[Any]:
    needed = _bytes(count, bits, packing)
    if len(data) < needed:
        raise ImageError(f"the camera gave {len(data)} bytes of a frame of {needed}")
    data = data[:needed]
    if bits == 8:
        return data.copy()
    if packing == "p":
        values = _unpack_stream(data, bits, count)
    elif packing == "Packed":
        values = _unpack_pairs(data, bits, count)
    else:
        values = data.view("<u2").astype(np.uint16)
    return values << np.uint16(16 - bits)


def _unpack_stream(data: NDArray[np.uint8], bits: int, count: int) -> NDArray[np.uint16]:
    """Values of `bits` one after the other, the lowest bit of each first."""
    stream = np.unpackbits(data, count=count * bits, bitorder="little").reshape(count, bits)
    return np.asarray(stream @ (1 << np.arange(bits)), np.uint16)


def _unpack_pairs(data: NDArray[np.uint8], bits: int, count: int) -> NDArray[np.uint16]:
    """Two values in three bytes: upper 8 bits, lower bits of both in the two halves of a byte, upper 8 bits."""
    whole = np.zeros(-(-count // 2) * 3, np.uint16)
    whole[: len(data)] = data
    first, low, second = whole.reshape(-1, 3).T
    shift, mask = bits - 8, (1 << (bits - 8)) - 1
    values = np.stack([first << shift | low & mask, second << shift | low >> 4 & mask], axis=1)
    return np.asarray(values.reshape(-1)[:count], np.uint16)


def demosaic(mosaic: NDArray[Any], kind: str) -> NDArray[Any]:
    """A Bayer mosaic (H, W) as RGB (H, W, 3) of the same type: each missing value is the mean of its neighbours.

    `kind` names the colours of the first row, such as BayerRG. Beyond the border the image is mirrored about its outer
    pixels, which keeps the pattern. Raises ImageError below 2×2 pixels.
    """
    if min(mosaic.shape) < 2:
        raise ImageError("a Bayer mosaic needs at least 2×2 pixels")
    row, column = _RED[kind]
    masks = [np.zeros(mosaic.shape, np.float32) for _ in range(3)]
    masks[0][row::2, column::2] = 1
    masks[2][1 - row :: 2, 1 - column :: 2] = 1
    masks[1] = 1 - masks[0] - masks[2]
    kernels = (_COLOUR_KERNEL, _GREEN_KERNEL, _COLOUR_KERNEL)
    planes = [
        cv2.filter2D(mosaic.astype(np.float32) * mask, -1, kernel, borderType=cv2.BORDER_REFLECT_101)
        for mask, kernel in zip(masks, kernels, strict=True)
    ]
    return np.rint(np.stack(planes, axis=-1)).astype(mosaic.dtype)
