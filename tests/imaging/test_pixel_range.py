"""Ranges of pixel values by hand, what stays bit for bit as it is, and images that do not fit."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from blemish.imaging.pixel_range import (
    FULL_SCALE,
    describe_range,
    find_misfit,
    full_range_values,
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
    assert (find_misfit(other, spec, any_size=True) is None) == (kind == "size")
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


def test_8_bit_images_need_not_be_decoded():
    image = picture(3, 90, np.uint8)
    assert spec_of(image).ranges == make_pixel_spec([full_range_values((32, 48))]).ranges
    assert find_misfit(image, make_pixel_spec([full_range_values((32, 48))])) is None


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
