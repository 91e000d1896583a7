"""Measurements have as many digits as their uncertainty leaves them."""

from dataclasses import replace

import numpy as np
import pytest

from blemish.inspection.measure import measure
from blemish.report.measurement_text import approximate, format_measurement, format_size, round_to_uncertainty
from blemish.report.text import missing_glyphs

BAR = measure(np.ones((4, 41), bool))


@pytest.mark.parametrize(
    ("value", "uncertainty", "text"),
    [
        (0.4567, 0.0512, "0.46 ± 0.05"),
        (3.2049, 0.12, "3.20 ± 0.12"),
        (345.6, 27, "350 ± 30"),
        (345.6, 2.3, "346 ± 2"),
        (9.96, 0.999, "10.0 ± 1.0"),
        (12345, 1400, "12300 ± 1400"),
    ],
)
def test_a_value_is_rounded_to_its_uncertainty(value, uncertainty, text):
    assert round_to_uncertainty(value, uncertainty) == text


def test_what_is_not_reliable_is_approximate():
    assert [approximate(value, 2) for value in (345.6, 0.0456, 3.2)] == ["≈ 350", "≈ 0.046", "≈ 3.2"]
    assert format_measurement(BAR, "length") == "≈ 41 px"  # nothing is known
    assert format_measurement(replace(BAR, length_px_u=30.0), "length") == "≈ 40 px"
    assert format_measurement(replace(BAR, length_px_u=3.0), "length") == "41 ± 3 px"
    assert format_measurement(replace(BAR, area_px_u=20.0), "area") == "160 ± 20 px²"


def test_millimetres_first_and_plain_data_as_well():
    own = {"length_px": 41.0, "length_mm": 4.1, "length_mm_u": 0.21, "mean_width_mm": 0.4, "mean_width_mm_u": None}
    assert format_measurement(own, "length") == "4.1 ± 0.2 mm"
    assert format_size(own) == "(4.1 ± 0.2) × ≈ 0.40 mm"
    assert format_measurement(own, "area") == format_measurement(None, "length") == "–"
    assert format_size(None) == ""


def test_pictures_use_characters_that_their_font_has():
    assert missing_glyphs(format_size(BAR, in_picture=True) + format_size(replace(BAR, length_px_u=3.0), True)) == set()
