"""Regions of a map against scikit-image's labelling."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy.ndimage import gaussian_filter
from skimage.measure import label, regionprops

from blemish.inspection.regions import regions_from_map

MAPS = arrays(
    np.float32, st.tuples(st.integers(1, 24), st.integers(1, 24)), elements=st.sampled_from([0, 0.2, 0.5, 0.8, 1])
)


@settings(max_examples=200, deadline=None)
@given(MAPS, st.integers(0, 4))
def test_same_regions_as_the_reference(heat, min_area):
    found = regions_from_map(heat, 0.5, 0.8, min_area, "defect")
    expected = regionprops(label(_hysteresis(heat), connectivity=2), intensity_image=heat)
    expected = [r for r in expected if r.area >= min_area]
    assert len(found) == len(expected)
    boxes = sorted((*r.box, r.score) for r in found)
    reference = sorted((*(r.bbox[i] for i in (1, 0, 3, 2)), r.intensity_max) for r in expected)
    np.testing.assert_allclose(boxes, reference, rtol=1e-6)
    whole = np.zeros(heat.shape, bool)
    for region in regions_from_map(heat, 0.5, 0.8, 0, "defect"):
        x0, y0, x1, y1 = region.box
        assert not (whole[y0:y1, x0:x1] & region.mask).any()
        whole[y0:y1, x0:x1] |= region.mask
    np.testing.assert_array_equal(whole, _hysteresis(heat))


def _hysteresis(heat):
    labels = label(heat >= 0.5, connectivity=2)
    return np.isin(labels, np.unique(labels[(heat >= 0.8)])) & (labels > 0)


def test_invalid_pixels_belong_to_no_region():
    heat = np.ones((10, 10), np.float32)
    valid = np.zeros((10, 10), bool)
    valid[2:5, 3:9] = True
    (region,) = regions_from_map(heat, 0.5, 0.5, 0, "defect", valid)
    assert region.box == (3, 2, 9, 5)
    assert region.mask.all()


def test_a_region_has_the_score_of_its_worst_pixel():
    mask = np.zeros((8, 8), bool)
    mask[1:3, 1:3] = mask[5, 5] = True
    scores = np.where(mask, np.arange(64, dtype=np.float32).reshape(8, 8) - 100, np.float32(-np.inf))
    regions = regions_from_map(scores, -100.0, -100.0, 0, "pit")
    assert [(r.label, r.score) for r in regions] == [("pit", -82.0), ("pit", -55.0)]


@pytest.mark.parametrize("sigma", [2, 5])
@pytest.mark.parametrize("peak", [1.0, 40.0])
def test_half_height_is_the_edge_of_a_blurred_shape(sigma, peak):
    shape = np.zeros((120, 160), np.float32)
    shape[30:80, 40:120] = peak
    blurred = 0.1 * peak + gaussian_filter(shape, sigma)
    low = 0.1 * peak + 1e-3 * peak
    (wide,) = regions_from_map(blurred, low, 0.5 * peak, 0, "defect")
    (tight,) = regions_from_map(blurred, low, 0.5 * peak, 0, "defect", edge=0.5)
    assert np.abs(np.subtract(tight.box, (40, 30, 120, 80))).max() <= 1
    assert np.abs(np.subtract(wide.box, (40, 30, 120, 80))).min() > sigma


def test_each_defect_has_its_own_border():
    heat = np.zeros((60, 120), np.float32)
    heat[20:40, 20:40], heat[20:40, 40:80], heat[25:30, 90:100] = 10, 3, 2
    found = regions_from_map(heat, 1, 2, 0, "defect", edge=0.5)
    assert sorted(r.box for r in found) == [(20, 20, 40, 40), (90, 25, 100, 30)]
