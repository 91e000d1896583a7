"""Choices on the command line are those of the library, and values that several commands read."""

import re
from typing import get_args

import pytest

from blemish.cli import compare, explain, options, scale, serve, train
from blemish.dataset.read import FORMATS
from blemish.errors import OptionError
from blemish.evaluation.comparison import METRICS
from blemish.imaging.scale import PATTERNS
from blemish.inspection.engines import ENGINES
from blemish.station.settings import KeepPolicy
from blemish.training.explain import METHODS
from blemish.training.learn.run import RunConfig


@pytest.mark.parametrize(
    ("choices", "known"),
    [
        (options.FormatName, ["auto", *FORMATS]),
        (options.WritableFormat, [name for name, own in FORMATS.items() if own.write is not None]),
        (options.EngineName, ENGINES),
        (scale.PatternName, PATTERNS),
        (compare.MetricName, METRICS),
        (explain.ExplanationMethod, METHODS),
        (serve.KeepName, get_args(KeepPolicy)),
        (train.FitName, get_args(RunConfig.model_fields["fit"].annotation)),
        (train.CalibrationSource, ["auto", *get_args(RunConfig.model_fields["calibration"].annotation)]),
    ],
)
def test_help_lists_the_choices_of_the_library(choices, known):
    assert sorted(get_args(choices)) == sorted(known)


@pytest.mark.parametrize(("text", "scale"), [(None, None), ("10", (10, 10)), ("10,12.5", (10, 12.5))])
def test_a_scale_is_one_number_or_two(text, scale):
    assert options.parse_scale(text) == scale


def test_a_comma_that_may_be_a_decimal_comma_is_refused_and_two_numbers_are_said(capsys):
    for text, one, two in (("3,5", "3.5", "3.0,5.0"), ("10,12", "10.12", "10.0,12.0")):
        with pytest.raises(OptionError, match=re.escape(f"{text} may be one number or two: write {one}, or {two}")):
            options.parse_scale(text)
    assert [options.parse_scale(text) for text in ("3.5", "3.0,5.0", "10,10")] == [(3.5, 3.5), (3, 5), (10, 10)]
    assert capsys.readouterr().err.splitlines() == [
        "scale: 3 px/mm along x, 5 px/mm along y", "scale: 10 px/mm along x, 10 px/mm along y",
    ]  # fmt: skip
    for x, y in ((16.0123, 15.98), (3, 5), (10, 10), (1234567, 2)):
        assert options.parse_scale(options.scale_text(x, y)) == pytest.approx((x, y), rel=1e-5)


@pytest.mark.parametrize("text", ["ten", "0", "-1", "1,2,3", "nan", "inf", "1,", ""])
def test_a_wrong_scale_is_one_line(text):
    with pytest.raises(OptionError, match=re.escape(f"--px-per-mm {text}: give one positive number, or two as X,Y")):
        options.parse_scale(text)
