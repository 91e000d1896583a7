"""Ranges of pixel values by hand, what stays bit for bit as it is, and images that do not fit."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from blemish.imaging.pixel_range import (
    FULL_SCALE,
    PixelSpec,
    describe_range,
    find_misfit,
    join_values,
    make_pixel_spec,
    measure_values,
    scale_pixels,
    value_range,
)
from blemish.imaging.prepare import to_unit

rng = np.random.default_rng(3)


def picture(low, high, dtype=np.float32, size=(32, 48)):
    """Noise from low to high, both of them reached."""
    values = rng.uniform(low, high, (*size, 1))
    values.flat[:2] = low, high
    return np.rint(values).astype(dtype) if np.issubdtype(dtype, np.integer) else values.astype(dtype)


def spec_of(*images):
    return make_pixel_spec(filter(None, map(measure_values, images)))


@pytest.mark.parametrize(("top", "full"), [(255, 255), (256, 1023), (1000, 1023), (4095, 4095), (16383, 16383),
                                           (16384, 65535), (65535, 65535)])  # fmt: skip
def test_16_bits_are_scaled_by_the_bits_in_use(top, full):
    image = picture(0, top, np.uint16)
    spec = spec_of(image)
    assert spec.ranges == {"uint16": (0, full)}
    np.testing.assert_allclose(to_unit(scale_pixels(image, spec)), image / np.float32(full), rtol=1e-6)


@pytest.mark.parametrize(
    "image",
    [
        picture(0, 255, np.uint8),
        picture(0, 3, np.uint8),
        picture(0, 65535, np.uint16),
        picture(20000, 30000, np.uint16),
        picture(0, 1),
        picture(0.2, 0.5),
        np.full((8, 8, 1), 0.5, np.float32),
        np.zeros((8, 8, 1), np.uint16),
    ],
    ids=["8 bit", "dark 8 bit", "16 bit", "part of 16 bit", "0 to 1", "part of 0 to 1", "one value", "black"],
)
def test_full_scale_stays_bit_for_bit(image):
    spec = spec_of(image)
    assert spec.ranges[str(image.dtype)] == FULL_SCALE[str(image.dtype)]
    np.testing.assert_array_equal(to_unit(scale_pixels(image, spec)), to_unit(image))
    assert describe_range(measure_values(image)) is None
    assert find_misfit(image, spec) is None


@pytest.mark.parametrize(
    ("low", "high"), [(-0.5, 0.5), (-0.01, 0.01), (0, 0.01), (0.5, 0.51), (-3, 3), (0, 37.5), (2000, 2040), (-1e-6, 0)]
)
def test_other_numbers_are_stretched_with_headroom(low, high):
    image = picture(low, high)
    spec = spec_of(image)
    first, last = spec.ranges["float32"]
    span = high - low
    assert (first, last) == pytest.approx((low - span / 4, high + span / 4), abs=1e-4 * span + 1e-6 * abs(high))
    scaled = scale_pixels(image, spec)
    assert (scaled.min(), scaled.max()) == pytest.approx((1 / 6, 5 / 6), abs=2e-3)
    pit = image.copy()
    pit[4:8, 4:8] -= np.float32(span / 5)
    assert scale_pixels(pit, spec).min() < scaled.min() - 0.05
    assert find_misfit(pit, spec) is None


@pytest.mark.parametrize(("top", "full"), [(255, 255), (4000, 4095), (60000, 65535)])
def test_whole_numbers_of_another_type_are_scaled_as_those_of_16_bits(top, full):
    image = picture(0, top, np.uint16).astype(np.float32)  # such as int32, as it is read
    assert spec_of(image).ranges == {"float32": (0, full)}
    assert "bits used" in describe_range(measure_values(image))


def test_a_few_outliers_do_not_flatten_the_rest():
    image = picture(-0.5, 0.5, size=(100, 100))
    image[0, :2] = -9999
    first, last = spec_of(image).ranges["float32"]
    assert -1 < first < -0.5 < 0.5 < last < 1


def test_images_without_finite_values_are_not_measured():
    assert measure_values(np.full((4, 4, 1), np.nan, np.float32)) is None
    assert make_pixel_spec([]) is None


def test_the_words_of_a_range():
    assert describe_range(measure_values(picture(0, 4000, np.uint16))) == "12 bits used of 16"
    assert describe_range(measure_values(picture(-0.5, 0.5))) == "numbers from -0.5 to 0.5, taken from -0.75 to 0.75"


@pytest.mark.parametrize(
    ("trained", "other", "kind"),
    [
        (picture(0, 255, np.uint8), picture(0, 65535, np.uint16), "depth"),
        (picture(0, 255, np.uint8), picture(0, 4095, np.uint16), "depth"),
        (picture(0, 4095, np.uint16), picture(0, 255, np.uint8), "depth"),
        (picture(0, 65535, np.uint16), picture(0, 4095, np.uint16), "range"),
        (picture(0, 4095, np.uint16), picture(0, 255, np.uint16), "range"),
        (picture(0, 4095, np.uint16), picture(0, 16383, np.uint16), "range"),
        (picture(0, 1), picture(-0.01, 0.01), "range"),
        (picture(0, 1), picture(-3, 3), "range"),
        (picture(0, 1), picture(0, 255), "range"),
        (picture(-0.5, 0.5), picture(-500, 500), "range"),
        (picture(-0.5, 0.5), picture(-0.0005, 0.0005), "range"),
        (picture(-0.5, 0.5), picture(9.5, 10.5), "range"),
        (picture(0, 255, np.uint8), picture(0, 255, np.uint8, (64, 97)), "size"),
        (picture(0, 255, np.uint8), picture(0, 255, np.uint8, (15, 48)), "size"),
    ],
)
def test_images_of_another_depth_range_or_size_do_not_fit(trained, other, kind):
    spec = spec_of(trained)
    assert find_misfit(trained, spec) is None
    assert find_misfit(other, spec)[0] == kind
    assert " ≠ " in find_misfit(other, spec)[1]
    assert find_misfit(other, None) is None
    scaled = to_unit(scale_pixels(other, spec))  # never an error: such an image is inspected, and not decided on
    assert 0 <= scaled.min() <= scaled.max() <= 1


def test_several_depths_and_sizes_of_one_training_set_all_fit():
    images = [picture(0, 255, np.uint8), picture(0, 4095, np.uint16, (20, 100)), picture(-2, 2, size=(80, 80))]
    spec = spec_of(*images)
    assert set(spec.ranges) == {"uint8", "uint16", "float32"}
    assert (spec.height, spec.width) == ((20, 80), (48, 100))
    for image in images:
        assert find_misfit(image, spec) is None
    assert find_misfit(picture(0, 255, np.uint8, (10, 200)), spec) is None
    assert find_misfit(picture(0, 255, np.uint8, (9, 200)), spec)[1] == "200×9 ≠ 48…100×20…80"


def scene(dtype, top, seed=0, light=1.0):
    """A part (a bright disc with grain) on a darker ground, with noise and hot pixels, at a share of the light."""
    noise = np.random.default_rng(seed)
    y, x = np.mgrid[:96, :96]
    values = np.where((x - 48) ** 2 + (y - 48) ** 2 < 30**2, 0.6, 0.25) * noise.normal(1, 0.03, (96, 96)) * light
    values = (values + noise.normal(0.01, 0.004, values.shape))[..., None] * top
    values[5, 5::30] = top  # hot pixels
    return values.clip(0, top).astype(dtype)


@pytest.mark.parametrize(("dtype", "top"), [(np.uint8, 255), (np.uint16, 65535), (np.uint16, 4095), (np.float32, 1)])
def test_frames_without_a_picture_do_not_fit_whatever_their_type(dtype, top):
    spec = spec_of(*(scene(dtype, top, seed) for seed in range(4)))
    noise = np.random.default_rng(9).normal(0, 0.004, (96, 96, 1)) * top
    noise[5, 5::30] = top
    frames = {
        "no light": scene(dtype, top, 5, light=0),
        "a tenth of the light": scene(dtype, top, 5, light=0.1),
        "saturated": np.full((96, 96, 1), top, dtype),
        "black": np.zeros((96, 96, 1), dtype),
        "a plain grey": np.full((96, 96, 1), 0.4 * top, dtype),
        "a plain grey with noise": (noise + 0.4 * top).clip(0, top).astype(dtype),
    }
    assert {name: (find_misfit(frame, spec) or ("fits",))[0] for name, frame in frames.items()} == dict.fromkeys(
        frames, "range"
    )
    bad = scene(dtype, top, 6)
    bad[30:60, 30:60] = 0  # a hole as large as a tenth of the image
    for image in (scene(dtype, top, 7), bad, scene(dtype, top, 8, light=0.6), scene(dtype, top, 8, light=1.4)):
        assert find_misfit(image, spec) is None


def test_images_as_dark_or_plain_as_those_of_training_fit():
    dark, plain = picture(0, 6, np.uint8), picture(198, 202, np.uint8)
    spec = spec_of(dark, plain)
    assert find_misfit(picture(0, 3, np.uint8), spec) is None
    assert find_misfit(picture(90, 92, np.uint8), spec) is None
    assert find_misfit(np.zeros((32, 48, 1), np.uint8), spec_of(dark, np.zeros((32, 48, 1), np.uint8))) is None


def test_bundles_without_these_measures_judge_as_before():
    old = spec_of(scene(np.uint8, 255)).model_dump(exclude={"means", "deviations", "channels", "aspect"})
    spec = PixelSpec(**{**old, "spreads": {"uint8": 0.0}})
    for image in (np.zeros((96, 96, 1), np.uint8), np.zeros((96, 96, 3), np.uint8)):
        assert find_misfit(image, spec) is None


def test_colour_and_grey_images_are_told_apart_by_their_pixels():
    colour = np.random.default_rng(4).integers(0, 256, (64, 64, 3), np.uint8)
    tinted = np.repeat(colour[..., :1], 3, axis=2)
    grey, as_rgb = tinted[..., :1], tinted.copy()
    tinted[3, 5, 2] ^= 1  # one pixel, off the coarse grid
    layers = np.dstack([colour, colour[..., :2]])
    kinds = {"colour": colour, "tinted": tinted, "grey": grey, "as rgb": as_rgb, "layers": layers}
    same = [{"colour", "tinted"}, {"grey", "as rgb"}, {"layers"}]
    for trained, image in kinds.items():
        spec = spec_of(image)
        fits = {name for name, other in kinds.items() if find_misfit(other, spec) is None}
        assert fits == next(names for names in same if trained in names)
    assert find_misfit(grey, spec_of(colour)) == ("depth", "1 × uint8 ≠ 3 × uint8")
    both = spec_of(colour, as_rgb)
    assert [name for name, image in kinds.items() if find_misfit(image, both) is None] == [*kinds][:4]


def test_another_aspect_than_the_one_of_all_training_images_does_not_fit():
    spec = spec_of(picture(0, 255, np.uint8, (96, 128)))
    for size in ((48, 64), (192, 256), (97, 128), (71, 96), (96, 127)):
        assert find_misfit(picture(0, 255, np.uint8, size), spec) is None
    for size in ((96, 96), (128, 96), (96, 120), (80, 128)):
        image = picture(0, 255, np.uint8, size)
        assert find_misfit(image, spec) == ("size", f"{size[1]}×{size[0]} ≠ 128×96")
        assert find_misfit(image, spec_of(picture(0, 255, np.uint8, (96, 128)), image)) is None
    halves = spec_of(picture(0, 255, np.uint8, (96, 128)), picture(0, 255, np.uint8, (48, 64)))
    assert find_misfit(picture(0, 255, np.uint8, (72, 96)), halves) is None
    assert find_misfit(picture(0, 255, np.uint8, (72, 72)), halves)[0] == "size"


def test_tiled_images_need_the_size_of_a_tile_and_named_sizes_are_the_only_ones():
    spec = spec_of(picture(0, 255, np.uint8, (256, 300)))

    def fits(height, width, **limits):
        return find_misfit(picture(0, 255, np.uint8, (height, width)), spec, **limits) is None

    assert fits(64, 64, tile=(64, 64))
    assert fits(900, 64, tile=(64, 64))
    assert not fits(63, 300, tile=(64, 64))
    assert not fits(8, 8, tile=(64, 64))
    assert fits(256, 300, tile=(512, 512))  # as in training
    assert fits(256, 300, sizes=[(256, 300)])
    assert not fits(256, 299, sizes=[(256, 300)])
    assert not fits(512, 600, sizes=[(256, 300)], tile=(64, 64))


@given(
    st.lists(st.tuples(st.floats(-1e4, 1e4, width=32), st.floats(0, 1e4, width=32)), min_size=1, max_size=4),
    st.sampled_from([np.float32, np.uint16, np.uint8]),
)
@settings(max_examples=150, deadline=None)
def test_every_training_image_fits_and_keeps_its_order(ranges, dtype):
    top = np.inf if dtype == np.float32 else np.iinfo(dtype).max
    images = [picture(low, low + span).clip(0 if top < np.inf else None, top).astype(dtype) for low, span in ranges]
    spec = spec_of(*images)
    first, last = value_range(join_values(map(measure_values, images))[str(np.dtype(dtype))])
    assert first < last
    for image in images:
        scaled = scale_pixels(image, spec).ravel().astype(np.float64)
        assert find_misfit(image, spec) is None
        assert (np.diff(scaled[np.argsort(image.ravel(), kind="stable")]) >= 0).all()
        assert to_unit(scale_pixels(image, spec)).max() <= 1
