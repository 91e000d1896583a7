"""Pixel formats of cameras against bits that are set one by one, and mosaics against means of neighbours."""

import numpy as np
import pytest

from blemish.errors import ImageError
from blemish.imaging.pixel_formats import decode_pixels, demosaic, frame_bytes


def pack_stream(values, bits):
    """PFNC's `p`: bit b of value v is bit (v·bits + b) of the stream, lowest first."""
    data = bytearray(-(-len(values) * bits // 8))
    for index, value in enumerate(values):
        for bit in range(bits):
            position = index * bits + bit
            data[position // 8] |= (int(value) >> bit & 1) << position % 8
    return bytes(data)


def pack_pairs(values, bits):
    """GigE Vision's `Packed`."""
    data = bytearray()
    for index in range(0, len(values), 2):
        pair = [int(value) for value in values[index : index + 2]] + [0]
        low = (1 << bits - 8) - 1
        data += bytes([pair[0] >> bits - 8, pair[0] & low | (pair[1] & low) << 4])
        if index + 1 < len(values):
            data.append(pair[1] >> bits - 8)
    return bytes(data)


@pytest.mark.parametrize("bits", [10, 12])
@pytest.mark.parametrize(("height", "width"), [(1, 1), (3, 5), (4, 6)])
def test_grey_of_more_than_8_bits(bits, height, width):
    values = np.random.default_rng(bits).integers(0, 1 << bits, height * width).astype(np.uint16)
    expected = (values.astype(int) * 2 ** (16 - bits)).reshape(height, width, 1)
    for name, data in (
        (f"Mono{bits}", values.astype("<u2").tobytes()),
        (f"Mono{bits}p", pack_stream(values, bits)),
        (f"Mono{bits}Packed", pack_pairs(values, bits)),
    ):
        assert frame_bytes(name, height, width) == len(data), name
        image = decode_pixels(data + b"\xff", name, height, width)  # with padding
        assert image.dtype == np.uint16
        np.testing.assert_array_equal(image, expected, err_msg=name)
        with pytest.raises(ImageError, match="bytes of a frame"):
            decode_pixels(data[:-1], name, height, width)


def test_whole_bytes_and_colours():
    rng = np.random.default_rng(0)
    grey, colour = rng.integers(0, 256, (4, 5, 1), np.uint8), rng.integers(0, 256, (4, 5, 3), np.uint8)
    deep = rng.integers(0, 65536, (4, 5, 1)).astype(np.uint16)
    np.testing.assert_array_equal(decode_pixels(grey.tobytes(), "Mono8", 4, 5), grey)
    np.testing.assert_array_equal(decode_pixels(deep.astype("<u2").tobytes(), "Mono16", 4, 5), deep)
    for name in ("RGB8", "RGB8Packed"):
        np.testing.assert_array_equal(decode_pixels(colour.tobytes(), name, 4, 5), colour)
    np.testing.assert_array_equal(decode_pixels(colour[..., ::-1].tobytes(), "BGR8", 4, 5), colour)


CELLS = {"BayerRG": "RGGB", "BayerGR": "GRBG", "BayerGB": "GBRG", "BayerBG": "BGGR"}  # rows of the 2×2 cell


def brute_force(mosaic, cell):
    """Each missing colour of a pixel: the mean of the nearest of that colour in its 3×3 square, mirrored at borders."""
    height, width = mosaic.shape
    image = np.zeros((height, width, 3))
    for y in range(height):
        for x in range(width):
            found = {"R": [], "G": [], "B": []}
            for dy in (-1, 0, 1):
                for dx in (-1, 0, 1):
                    yy, xx = y + dy, x + dx
                    yy = -yy if yy < 0 else 2 * (height - 1) - yy if yy >= height else yy
                    xx = -xx if xx < 0 else 2 * (width - 1) - xx if xx >= width else xx
                    found[cell[yy % 2 * 2 + xx % 2]].append((dy * dy + dx * dx, float(mosaic[yy, xx])))
            for channel, colour in enumerate("RGB"):
                nearest = min(distance for distance, _ in found[colour])
                image[y, x, channel] = np.mean([value for distance, value in found[colour] if distance == nearest])
    return image


@pytest.mark.parametrize("kind", CELLS)
@pytest.mark.parametrize("size", [(2, 2), (5, 6), (8, 7)])
def test_bayer_mosaics(kind, size):
    mosaic = np.random.default_rng(1).integers(0, 256, size, np.uint8)
    image = decode_pixels(mosaic.tobytes(), f"{kind}8", *size)
    assert image.dtype == np.uint8
    assert np.abs(image - brute_force(mosaic, CELLS[kind])).max() <= 0.5
    deep = (mosaic.astype(np.uint16) << 4) + 3
    packed = decode_pixels(pack_pairs(deep.reshape(-1), 12), f"{kind}12Packed", *size)
    assert np.abs(packed - brute_force(deep.astype(int) * 16, CELLS[kind])).max() <= 0.5


def test_a_plane_of_one_colour_stays_so():
    colour = np.array([200, 90, 30], np.uint8)
    for kind, cell in CELLS.items():
        mosaic = np.array(
            [[colour["RGB".index(cell[y % 2 * 2 + x % 2])] for x in range(6)] for y in range(4)], np.uint8
        )
        assert (demosaic(mosaic, kind) == colour).all()


@pytest.mark.parametrize("name", ["YUV422_8", "Mono14", "Mono8p", "RGB12p", "Mono16Packed", "Coord3D_C16", ""])
def test_other_formats_are_refused(name):
    with pytest.raises(ImageError, match="not supported"):
        decode_pixels(bytes(100), name, 2, 2)


def test_a_mosaic_of_one_row():
    with pytest.raises(ImageError, match="2×2"):
        demosaic(np.zeros((1, 8), np.uint8), "BayerRG")
