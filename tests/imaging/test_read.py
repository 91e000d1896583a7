"""Reading against Pillow and tifffile as independent witnesses, and one clear line for every kind of bad file."""

import io
import struct
import zlib

import cv2
import numpy as np
import pytest
import tifffile
from PIL import Image, ImageOps

from blemish.errors import ImageError
from blemish.imaging.read import (
    encode,
    has_clear_frame,
    image_header,
    read_image,
    read_mask,
    read_orientation,
    write_image,
)

rng = np.random.default_rng(0)
GREY = rng.integers(0, 256, (13, 17), dtype=np.uint8)
RGB = rng.integers(0, 256, (13, 17, 3), dtype=np.uint8)
RGBA = np.dstack([RGB, rng.integers(0, 256, (13, 17), dtype=np.uint8)])
GREY16 = rng.integers(0, 65536, (13, 17), dtype=np.uint16)
SMOOTH = cv2.resize(rng.integers(0, 256, (3, 4, 3), dtype=np.uint8), (64, 48), interpolation=cv2.INTER_CUBIC)


def saved(picture, form, **options):
    stream = io.BytesIO()
    picture.save(stream, form, **options)
    return stream.getvalue()


def read_bytes(tmp_path, data, name="image.png"):
    path = tmp_path / name
    path.write_bytes(data)
    return read_image(path)


@pytest.mark.parametrize("form", ["PNG", "BMP", "TIFF", "PPM", "WEBP", "JPEG2000"])
@pytest.mark.parametrize("pixels", [GREY, RGB], ids=["grey", "rgb"])
def test_lossless_formats_give_the_pixels_whatever_the_name(tmp_path, form, pixels):
    options = {"lossless": True} if form == "WEBP" else {"irreversible": False} if form == "JPEG2000" else {}
    image = read_bytes(tmp_path, saved(Image.fromarray(pixels), form, **options), "misnamed.jpg")
    expected = pixels[..., None] if pixels.ndim == 2 else pixels
    if form == "WEBP" and pixels.ndim == 2:  # WebP has no grey
        expected = np.repeat(expected, 3, axis=2)
    assert image.dtype == np.uint8
    np.testing.assert_array_equal(image, expected)


@pytest.mark.parametrize(
    ("picture", "expected"),
    [
        (Image.fromarray(RGBA), RGB),
        (Image.merge("LA", [Image.fromarray(GREY)] * 2), GREY[..., None]),
        (Image.fromarray(GREY > 99), np.where(GREY > 99, 255, 0)[..., None]),
        (Image.fromarray(GREY16), GREY16[..., None]),
    ],
    ids=["alpha is dropped", "grey with alpha", "one bit", "16 bit"],
)
def test_png_kinds(tmp_path, picture, expected):
    np.testing.assert_array_equal(read_bytes(tmp_path, saved(picture, "PNG")), expected)


@pytest.mark.parametrize("form", ["PNG", "GIF", "TIFF", "BMP"])
def test_palette_becomes_rgb(tmp_path, form):
    picture = Image.fromarray(SMOOTH).quantize(16)
    np.testing.assert_array_equal(read_bytes(tmp_path, saved(picture, form)), np.asarray(picture.convert("RGB")))


def test_rgb_16_bit_png_keeps_its_depth_and_order(tmp_path):
    pixels = rng.integers(0, 65536, (5, 7, 3), dtype=np.uint16)
    write_image(tmp_path / "a.png", pixels)
    np.testing.assert_array_equal(read_image(tmp_path / "a.png"), pixels)
    assert tuple(Image.open(tmp_path / "a.png").convert("RGB").getpixel((2, 3))) == tuple(pixels[3, 2] >> 8)


@pytest.mark.parametrize("mode", ["RGB", "L", "CMYK"])
def test_jpeg_agrees_with_pillow(tmp_path, mode):
    data = saved(Image.fromarray(SMOOTH).convert(mode), "JPEG", quality=95)
    with Image.open(io.BytesIO(data)) as picture:
        expected = np.asarray(picture.convert("RGB" if mode == "CMYK" else mode)).reshape(48, 64, -1).astype(int)
    image = read_bytes(tmp_path, data)
    assert image.shape == expected.shape
    assert np.abs(image - expected).max() <= 3  # decoders may round differently


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("form", ["JPEG", "PNG", "TIFF", "WEBP"])
def test_orientation_is_applied(tmp_path, orientation, form):
    exif = Image.Exif()
    exif[0x0112] = orientation
    options = {"JPEG": {"quality": 100, "subsampling": 0}, "WEBP": {"lossless": True}}.get(form, {})
    data = saved(Image.fromarray(SMOOTH), form, exif=exif, **options)
    with Image.open(io.BytesIO(data)) as picture:
        expected = np.asarray(ImageOps.exif_transpose(picture).convert("RGB")).astype(int)
    image = read_bytes(tmp_path, data)
    assert image.shape == expected.shape
    assert np.abs(image - expected).max() <= 3
    header = image_header(tmp_path / "image.png")
    assert (header.height, header.width, header.channels, header.bits) == (*image.shape, 8)


@pytest.mark.parametrize("channels", [1, 2, 3, 4, 5, 12])
@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.float32])
@pytest.mark.parametrize("planar", ["contig", "separate"])
@pytest.mark.parametrize("compression", [None, "zlib"])
def test_tiff_of_any_channels_depth_and_layout(tmp_path, channels, dtype, planar, compression):
    pixels = (rng.random((9, 11, channels)) * (1 if dtype == np.float32 else 255)).astype(dtype)
    stored = pixels if planar == "contig" else pixels.transpose(2, 0, 1)
    options = {"photometric": "rgb" if channels == 3 else "minisblack", "compression": compression}
    if channels == 1:
        stored = pixels[..., 0]
    else:
        options["planarconfig"] = planar
    tifffile.imwrite(tmp_path / "a.tif", stored, byteorder=">", **options)
    image = read_image(tmp_path / "a.tif")
    np.testing.assert_array_equal(image, pixels)
    assert image.dtype == dtype
    assert image.dtype.isnative
    header = image_header(tmp_path / "a.tif")
    assert (header.height, header.width, header.channels) == image.shape
    assert header.bits == 8 * np.dtype(dtype).itemsize


def lzw(data):
    """TIFF's LZW of literals only: codes of 9 bits, and a cleared table before they would need 10."""
    codes = []
    for at in range(0, len(data), 200):
        codes += [256, *data[at : at + 200]]
    bits = "".join(f"{code:09b}" for code in [*codes, 257])
    bits += "0" * (-len(bits) % 8)
    return int(bits, 2).to_bytes(len(bits) // 8, "big")


def packbits(data):
    return b"".join(bytes([len(data[at : at + 128]) - 1]) + data[at : at + 128] for at in range(0, len(data), 128))


COMPRESSIONS = {"none": (1, bytes), "lzw": (5, lzw), "deflate": (8, zlib.compress), "packbits": (32773, packbits)}


def tiff(pixels, compression="none", orientation=1, white=False, alpha=0, order="<"):
    """A TIFF of one strip, written by hand: pixels (H, W, C), alpha by its number in ExtraSamples."""
    number, compress = COMPRESSIONS[compression]
    height, width, channels = pixels.shape
    strip = compress(pixels.astype(pixels.dtype.newbyteorder(order)).tobytes())
    form = {"u": 1, "i": 2, "f": 3}[pixels.dtype.kind]
    tags = {
        256: [width], 257: [height], 258: [8 * pixels.itemsize] * channels, 259: [number],
        262: [2 if channels > 2 else 0 if white else 1], 273: [8], 274: [orientation], 277: [channels],
        278: [height], 279: [len(strip)], 338: [alpha], 339: [form] * channels,
    }  # fmt: skip
    if not alpha:
        del tags[338]
    data, fields = strip + bytes(len(strip) % 2), b""
    for tag, values in tags.items():
        packed = struct.pack(f"{order}{len(values)}H", *values)
        if len(packed) > 4:
            packed, data = struct.pack(f"{order}I", 8 + len(data)), data + packed + bytes(len(packed) % 4)
        fields += struct.pack(f"{order}HHI", tag, 3, len(values)) + packed.ljust(4, b"\0")
    head = (b"II*\0" if order == "<" else b"MM\0*") + struct.pack(f"{order}I", 8 + len(data))
    return head + data + struct.pack(f"{order}H", len(tags)) + fields + bytes(4)


UPRIGHT = {
    1: lambda a: a, 2: np.fliplr, 3: lambda a: np.rot90(a, 2), 4: np.flipud, 5: lambda a: np.rot90(np.fliplr(a)),
    6: lambda a: np.rot90(a, -1), 7: lambda a: np.rot90(np.fliplr(a), -1), 8: np.rot90,
}  # fmt: skip
RGBA16, INT16 = RGBA.astype(np.uint16) * 257, GREY16.astype(np.int32).astype(np.int16)[..., None]
FLOATS = (GREY16[..., None] / 65535).astype(np.float32)
KINDS = {  # pixels as stored, options, and what they are
    "grey": (GREY[..., None], {}, GREY[..., None]),
    "grey, 0 is white": (GREY[..., None], {"white": True}, 255 - GREY[..., None]),
    "16 bit": (GREY16[..., None], {}, GREY16[..., None]),
    "16 bit, 0 is white": (GREY16[..., None], {"white": True}, 65535 - GREY16[..., None]),
    "colour": (RGB, {}, RGB),
    "16 bit colour": (RGBA16[..., :3], {}, RGBA16[..., :3]),
    "alpha": (RGBA, {"alpha": 2}, RGB),
    "alpha, multiplied": (RGBA, {"alpha": 1}, RGB),
    "16 bit alpha": (RGBA16, {"alpha": 2}, RGBA16[..., :3]),
    "float": (FLOATS, {}, FLOATS),
    "signed": (INT16, {}, INT16.astype(np.float32)),
    "grey with alpha": (RGBA[..., 2:], {"alpha": 2}, RGB[..., 2:]),
    "16 bit grey with alpha": (RGBA16[..., 2:], {"alpha": 2}, RGBA16[..., 2:3]),
    "signed bytes": (GREY.astype(np.int16).astype(np.int8)[..., None], {}, GREY.astype(np.int8)[..., None]),
    "float, 0 is white": (FLOATS, {"white": True}, None),
    "signed, 0 is white": (INT16, {"white": True}, None),
}
REFUSED = {("lzw", "16 bit grey with alpha")}


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("compression", COMPRESSIONS)
def test_a_tiff_is_read_the_same_whatever_its_compression_or_is_refused(tmp_path, compression, kind):
    stored, options, expected = KINDS[kind]
    for orientation, turn in UPRIGHT.items():
        for order in "<>":
            data = tiff(stored, compression, orientation, order=order, **options)
            if expected is None or (compression, kind) in REFUSED:
                with pytest.raises(ImageError, match=r"; save it (uncompressed|with 0 as black)"):
                    read_bytes(tmp_path, data, "a.tif")
                continue
            np.testing.assert_array_equal(read_bytes(tmp_path, data, "a.tif"), turn(expected))
            header = image_header(tmp_path / "a.tif")
            assert (header.height, header.width, header.channels) == turn(expected).shape


def test_masks_in_tiff_files_are_upright_whatever_their_compression(tmp_path):
    mask, alpha = np.zeros((13, 17), np.uint8), np.full((13, 17), 255, np.uint8)
    mask[2:6, 3:12], alpha[2:6, 8:] = 255, 0
    marked = np.zeros((13, 17), bool)
    marked[2:6, 3:8] = True
    for compression in COMPRESSIONS:
        for orientation, turn in UPRIGHT.items():
            (tmp_path / "m.tif").write_bytes(tiff(mask[..., None], compression, orientation))
            np.testing.assert_array_equal(read_mask(tmp_path / "m.tif"), turn(mask > 0))
            (tmp_path / "m.tif").write_bytes(tiff(np.dstack([mask] * 3 + [alpha]), compression, orientation, alpha=2))
            np.testing.assert_array_equal(read_mask(tmp_path / "m.tif"), turn(marked))


@pytest.mark.parametrize("mode", ["L", "RGB", "YCbCr", "P", "CMYK"])
def test_jpeg_in_tiff_and_colour_spaces_are_turned_once(tmp_path, mode):
    picture, compression = Image.fromarray(SMOOTH).convert(mode), "tiff_lzw" if mode in ("P", "CMYK") else "jpeg"
    picture.save(tmp_path / "a.tif", compression=compression)
    plain = read_image(tmp_path / "a.tif")
    for orientation, turn in UPRIGHT.items():
        picture.save(tmp_path / "a.tif", compression=compression, tiffinfo={274: orientation})
        np.testing.assert_array_equal(read_image(tmp_path / "a.tif"), turn(plain))


@pytest.mark.parametrize("white", [False, True])
@pytest.mark.parametrize("compression", ["raw", "tiff_lzw", "packbits", "group4"])
def test_tiffs_of_one_bit_are_black_and_white_as_they_say(tmp_path, compression, white):
    Image.fromarray(GREY > 100).save(tmp_path / "a.tif", compression=compression)
    data = bytearray((tmp_path / "a.tif").read_bytes())
    with tifffile.TiffFile(tmp_path / "a.tif") as file:
        tag = file.pages.first.tags[262]
    assert tag.value == 1
    data[tag.valueoffset] = 0 if white else 1
    image = read_bytes(tmp_path, bytes(data), "a.tif")
    np.testing.assert_array_equal(image[..., 0], 255 * ((GREY > 100) != white))


def packed_tiff(values, bits, compression):
    """A TIFF by hand: values (H, W) or (H, W, 3) in so many bits each, the highest first; each row begins a byte."""
    height, width, samples = (*values.shape, 1)[:3]
    places = np.arange(bits - 1, -1, -1)
    rows = (values.reshape(height, -1, 1) >> places & 1).astype(np.uint8).reshape(height, -1)
    data = b"".join(np.packbits(row).tobytes() for row in rows)
    data = zlib.compress(data) if compression == 8 else data
    at = 8 + 2 + 12 * 10 + 4  # behind the tags: three numbers of bits, and the pixels
    tags = [
        (256, 3, 1, width), (257, 3, 1, height), (258, 3, samples, bits if samples == 1 else at),
        (259, 3, 1, compression), (262, 3, 1, 1 if samples == 1 else 2), (273, 4, 1, at + 6), (277, 3, 1, samples),
        (278, 3, 1, height), (279, 4, 1, len(data)), (284, 3, 1, 1),
    ]  # fmt: skip
    fields = b"".join(struct.pack("<HHII", *tag) for tag in tags)
    return struct.pack("<2sHIH", b"II", 42, 8, 10) + fields + struct.pack("<IHHH", 0, bits, bits, bits) + data


@pytest.mark.parametrize("compression", [1, 8], ids=["none", "deflate"])
@pytest.mark.parametrize("bits", [10, 12, 14])
@pytest.mark.parametrize("shape", [(13, 17), (13, 17, 3)], ids=["grey", "rgb"])
def test_packed_values_are_those_of_a_file_that_is_not_packed(tmp_path, compression, bits, shape):
    values = np.random.default_rng(bits).integers(0, 1 << bits, shape, dtype=np.uint16)
    values[0, 0] = (1 << bits) - 1
    tifffile.imwrite(tmp_path / "plain.tif", values, photometric="minisblack" if len(shape) == 2 else "rgb")
    expected = tifffile.imread(tmp_path / "plain.tif")
    image = read_bytes(tmp_path, packed_tiff(values, bits, compression), "packed.tif")
    assert image.dtype == np.uint16
    np.testing.assert_array_equal(image.reshape(shape), expected)
    np.testing.assert_array_equal(image, read_image(tmp_path / "plain.tif"))


def test_tiff_specials(tmp_path):
    tifffile.imwrite(tmp_path / "alpha.tif", RGBA, photometric="rgb", extrasamples=["unassalpha"])
    np.testing.assert_array_equal(read_image(tmp_path / "alpha.tif"), RGB)
    bands = np.stack([GREY, 255 - GREY, GREY // 2, GREY])
    tifffile.imwrite(tmp_path / "bands.tif", bands, photometric="minisblack", planarconfig="separate")
    np.testing.assert_array_equal(read_image(tmp_path / "bands.tif")[..., 1], 255 - GREY)
    tifffile.imwrite(tmp_path / "channels.tif", bands, imagej=True, metadata={"axes": "CYX"})
    np.testing.assert_array_equal(read_image(tmp_path / "channels.tif")[..., 1], 255 - GREY)
    tifffile.imwrite(tmp_path / "big.tif", GREY16, bigtiff=True)
    np.testing.assert_array_equal(read_image(tmp_path / "big.tif")[..., 0], GREY16)
    tifffile.imwrite(tmp_path / "white.tif", 255 - GREY, photometric="miniswhite")
    np.testing.assert_array_equal(read_image(tmp_path / "white.tif")[..., 0], GREY)
    for pixels in (GREY, RGB, GREY16):
        Image.fromarray(pixels).save(tmp_path / "lzw.tif", compression="tiff_lzw")
        np.testing.assert_array_equal(read_image(tmp_path / "lzw.tif").squeeze(), pixels)
    tifffile.imwrite(tmp_path / "volume.tif", np.zeros((2, 3, 9, 9), np.uint8), photometric="minisblack")
    with pytest.raises(ImageError, match="not one image"):
        read_image(tmp_path / "volume.tif")


@pytest.mark.parametrize("dtype", [np.int8, np.int16, np.int32, np.uint32, np.int64, np.float16, np.float64])
def test_signed_and_wide_numbers_keep_their_values_as_floats(tmp_path, dtype):
    values = rng.integers(0 if dtype == np.uint32 else -100, 100, (9, 11)).astype(dtype)
    tifffile.imwrite(tmp_path / "heights.tif", values)
    image = read_image(tmp_path / "heights.tif")
    np.testing.assert_array_equal(image[..., 0], values)
    assert str(image.dtype) == image_header(tmp_path / "heights.tif").dtype == "float32"


def test_pixels_that_are_no_numbers_on_a_line_are_refused(tmp_path):
    tifffile.imwrite(tmp_path / "spectrum.tif", np.zeros((9, 9), np.complex64))
    with pytest.raises(ImageError, match="complex64"):
        read_image(tmp_path / "spectrum.tif")


@pytest.mark.parametrize("pages", [2, 3, 4])
@pytest.mark.parametrize("colour", [GREY, RGB], ids=["grey", "rgb"])
def test_pages_of_a_tiff_are_not_channels(tmp_path, pages, colour):
    pictures = [Image.fromarray(colour)] * pages
    pictures[0].save(tmp_path / "part 7.tif", save_all=True, append_images=pictures[1:])
    for look in (read_image, image_header):
        with pytest.raises(ImageError, match=rf"part 7\.tif: it holds {pages} pages"):
            look(tmp_path / "part 7.tif")
    pictures[0].save(tmp_path / "part 7.tif")
    assert read_image(tmp_path / "part 7.tif").shape[2] == (1 if colour.ndim == 2 else 3)


def test_pages_of_several_sizes_are_refused_and_previews_are_not(tmp_path):
    with tifffile.TiffWriter(tmp_path / "a.tif") as file:
        file.write(GREY)
        file.write(GREY[::2, ::2], subfiletype=1)
    np.testing.assert_array_equal(read_image(tmp_path / "a.tif")[..., 0], GREY)
    with tifffile.TiffWriter(tmp_path / "a.tif") as file:
        file.write(GREY)
        file.write(GREY[::2, ::2])
    with pytest.raises(ImageError, match="2 pages"):
        read_image(tmp_path / "a.tif")


@pytest.mark.parametrize("form", ["GIF", "WEBP", "PNG"])
def test_animations_are_refused_and_single_frames_are_not(tmp_path, form):
    frames = [Image.fromarray(np.roll(RGB, k, axis=0)) for k in range(3)]
    with pytest.raises(ImageError, match="it holds 3 frames"):
        read_bytes(tmp_path, saved(frames[0], form, save_all=True, append_images=frames[1:]))
    assert read_bytes(tmp_path, saved(frames[0], form)).shape == RGB.shape


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("form", ["JPEG", "PNG", "TIFF"])
def test_a_point_of_the_stored_frame_is_turned_like_its_pixel(tmp_path, orientation, form):
    exif = Image.Exif()
    exif[0x0112] = orientation
    pixels = np.zeros((16, 40), np.uint8)
    pixels[8:16, 24:32] = 255
    Image.fromarray(pixels).save(tmp_path / "image.x", form, exif=exif)
    header, image = image_header(tmp_path / "image.x"), read_image(tmp_path / "image.x")[..., 0] > 127
    assert header.orientation == read_orientation(tmp_path / "image.x") == orientation
    assert header.stored_size == (16, 40)
    (x0, y0), (x1, y1) = np.sort(header.to_upright(np.array([[24.0, 8.0], [32.0, 16.0]])), axis=0)
    expected = np.zeros(header.size, bool)
    expected[int(y0) : int(y1), int(x0) : int(x1)] = True
    np.testing.assert_array_equal(image, expected)


@pytest.mark.parametrize("orientation", range(1, 9))
def test_a_mask_made_in_the_stored_frame_is_turned_with_its_image_where_the_size_tells(tmp_path, orientation):
    exif = Image.Exif()
    exif[0x0112] = orientation
    stored = np.zeros((16, 40), np.uint8)
    stored[8:16, 24:32] = 255
    Image.fromarray(stored).save(tmp_path / "image.jpg", exif=exif, quality=95)
    upright = read_image(tmp_path / "image.jpg")[..., 0] > 127
    write_image(tmp_path / "upright.png", upright)
    write_image(tmp_path / "stored.png", stored)
    Image.fromarray(stored).save(tmp_path / "turned.png", exif=exif)
    tells = orientation in (1, 5, 6, 7, 8)
    for name in ["upright.png", "turned.png", *(["stored.png"] if tells else [])]:
        mask = read_mask(tmp_path / name, upright.shape, tmp_path / "image.jpg")
        np.testing.assert_array_equal(mask, upright)
    assert has_clear_frame(tmp_path / "turned.png", tmp_path / "image.jpg")
    assert has_clear_frame(tmp_path / "stored.png", tmp_path / "image.jpg") is tells
    write_image(tmp_path / "square.png", stored[:, :16])
    assert has_clear_frame(tmp_path / "square.png", tmp_path / "image.jpg") is (orientation == 1)


@pytest.mark.parametrize("form", ["PNG", "JPEG", "BMP", "TIFF"])
def test_a_single_pixel_is_an_image(tmp_path, form):
    image = read_bytes(tmp_path, saved(Image.new("RGB", (1, 1), (9, 9, 9)), form))
    assert image.shape == (1, 1, 3)
    assert np.abs(image.astype(int) - 9).max() <= 1


def claimed_png(width, height):
    """A PNG whose header claims a size that its few bytes do not hold."""

    def chunk(kind, body):
        return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))

    head = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", zlib.compress(b"\0" * 99)) + chunk(b"IEND", b"")


def flipped(data, at):
    return data[:at] + bytes([data[at] ^ 0xFF]) + data[at + 1 :]


PNG, JPEG = saved(Image.fromarray(SMOOTH), "PNG"), saved(Image.fromarray(SMOOTH), "JPEG")
JPEG_WITH_THUMBNAIL = JPEG[:2] + b"\xff\xe5" + struct.pack(">H", 2 + len(JPEG)) + JPEG + JPEG[2:]
TIFF = saved(Image.fromarray(SMOOTH), "TIFF")
BAD = {
    "empty": (b"", "empty"),
    "text": (b"this is no image\n" * 9, "no known image format"),
    "truncated png": (PNG[: len(PNG) // 2], "truncated"),
    "png without its last byte": (PNG[:-1], "truncated"),
    "bit flip in png": (flipped(PNG, len(PNG) // 2), "damaged"),
    "png signature alone": (PNG[:8], "damaged"),
    "png cut in the header": (PNG[:20], "damaged"),
    "jpeg cut in its tables": (JPEG[: len(JPEG) // 2], "truncated"),
    "jpeg cut in its pixels": (JPEG[: -len(JPEG) // 6], "truncated"),
    "truncated jpeg with a thumbnail": (JPEG_WITH_THUMBNAIL[: len(JPEG) + 12 + len(JPEG) // 2], "truncated"),
    "jpeg marker alone": (JPEG[:3], "cannot read"),
    "truncated tiff": (TIFF[: len(TIFF) // 2], "cannot read"),
    "tiff header alone": (TIFF[:8], "cannot read"),
    "truncated bmp": (saved(Image.fromarray(SMOOTH), "BMP")[:500], "truncated"),
    "bomb": (claimed_png(40_000, 40_000), "limit of 250,000,000"),
    "png of no width": (claimed_png(0, 4), "no pixels"),
    "png that holds less than it claims": (claimed_png(64, 64), "damaged"),
}


@pytest.mark.parametrize("case", BAD)
def test_a_bad_file_is_one_clear_line_that_names_it(tmp_path, case):
    data, words = BAD[case]
    with pytest.raises(ImageError, match=words) as caught:
        read_bytes(tmp_path, data, "part 7.png")
    assert "part 7.png" in str(caught.value)
    assert "\n" not in str(caught.value)


def test_the_whole_files_of_the_bad_ones_are_read(tmp_path):
    for data in (PNG, JPEG, JPEG_WITH_THUMBNAIL, TIFF, JPEG + b"trailing", PNG + b"trailing"):
        assert read_bytes(tmp_path, data).shape == SMOOTH.shape


def test_missing_file_folder_and_size_limit(tmp_path):
    with pytest.raises(ImageError, match="no such file"):
        read_image(tmp_path / "absent.png")
    with pytest.raises(ImageError, match="is a directory"):
        read_image(tmp_path)
    write_image(tmp_path / "a.jpg", RGB)
    with pytest.raises(ImageError, match="limit of 100;"):
        read_image(tmp_path / "a.jpg", max_pixels=100)


@pytest.mark.parametrize(
    "values",
    [
        np.where(GREY > 99, 255, 0).astype(np.uint8),
        (GREY > 99).astype(np.uint8),
        np.where(GREY > 99, 128, 0).astype(np.uint8),
        np.where(GREY > 99, 65535, 0).astype(np.uint16),
        np.dstack([np.where(GREY > 99, 255, 0)] * 3).astype(np.uint8),
        GREY > 99,
    ],
    ids=["0/255", "0/1", "128", "16 bit", "rgb", "bool"],
)
def test_mask_is_above_half_or_above_zero_of_one(tmp_path, values):
    write_image(tmp_path / "mask.png", values)
    mask = read_mask(tmp_path / "mask.png", size=(13, 17))
    assert mask.dtype == bool
    np.testing.assert_array_equal(mask, GREY > 99)


def test_a_mask_of_another_size_is_an_error(tmp_path):
    write_image(tmp_path / "mask.png", GREY > 99)
    with pytest.raises(ImageError, match="has 17×13 pixels, its image 13×17"):
        read_mask(tmp_path / "mask.png", size=(17, 13))


@pytest.mark.parametrize(("suffix", "channels", "dtype"), [(".png", 5, np.uint8), (".jpg", 1, np.uint16)])
def test_a_type_that_cannot_hold_the_pixels_says_so(suffix, channels, dtype):
    with pytest.raises(ImageError, match="cannot hold"):
        encode(np.zeros((4, 4, channels), dtype), suffix)


def test_unknown_type_to_write(tmp_path):
    with pytest.raises(ImageError, match="cannot write images of type"):
        write_image(tmp_path / "a.xyz", RGB)


def test_what_unpacks_to_too_many_bytes_is_refused_whatever_its_pixels(tmp_path):
    path = tmp_path / "deep.tif"
    tifffile.imwrite(
        path, np.zeros((20, 20, 7), np.float32), compression="zlib", photometric="minisblack", planarconfig="contig"
    )
    with pytest.raises(ImageError, match="7 channels of 32 bits, 11,200 bytes in all, more than the limit of 11,196"):
        read_image(path, max_pixels=2799)
    assert read_image(path, max_pixels=2800).shape == (20, 20, 7)


@pytest.mark.parametrize("top", [100, 255, 1023, 4095, 65535])
def test_deep_colours_are_never_cut_to_8_bits(tmp_path, top):
    colours = rng.integers(0, top + 1, (8, 9, 3)).astype(">u2" if top > 255 else np.uint8)
    plain = f"P3 9 8 {top}\n{' '.join(map(str, colours.ravel()))}\n".encode()
    for data in (f"P6 9 8 {top}\n".encode() + colours.tobytes(), plain):
        if top > 255:
            with pytest.raises(ImageError, match=f"its colours of {top.bit_length()} bits would be cut to 8"):
                read_bytes(tmp_path, data, "a.ppm")
        else:
            assert np.abs(read_bytes(tmp_path, data, "a.ppm") - colours * (255 / top)).max() <= 1


def test_deep_colours_of_jpeg_2000_are_refused_and_8_bits_are_read(tmp_path):
    for no_jp2 in (False, True):
        data = bytearray(saved(Image.fromarray(RGB), "JPEG2000", irreversible=False, no_jp2=no_jp2))
        np.testing.assert_array_equal(read_bytes(tmp_path, bytes(data), "a.jp2"), RGB)
        at = data.find(b"\xff\x51") + 40 if no_jp2 else data.find(b"ihdr") + 14
        assert data[at] == 7
        data[at] = 15
        with pytest.raises(ImageError, match="its colours of 16 bits would be cut to 8"):
            read_bytes(tmp_path, bytes(data), "a.jp2")
