"""Shewhart charts against published examples and constants, and the rules against their words."""

import numpy as np
import pytest

from blemish.qualify import shewhart
from blemish.qualify.shewhart import ControlChart


def test_shares_and_rates_of_published_examples() -> None:
    """Montgomery, 7th edition: examples 7.1 (frozen orange juice cans) and 7.4 (errors of shipments)."""
    chart = shewhart.chart_shares([12] * 17 + [11] * 13, [50] * 30)  # the published total is 347
    assert sum([12] * 17 + [11] * 13) == 347
    assert (chart.centre, chart.low[0], chart.high[0]) == pytest.approx((0.2313, 0.0524, 0.4102), abs=5e-5)
    chart = shewhart.chart_rates([4] * 14 + [3] * 6, [50] * 20)  # 74 errors
    assert (chart.centre, chart.low[0], chart.high[0]) == pytest.approx((0.0740, 0.0, 0.1894), abs=5e-5)


def test_limits_follow_the_number_of_parts() -> None:
    chart = shewhart.chart_shares([1, 100], [10, 1000])
    assert chart.deviations == pytest.approx([np.sqrt(0.1 * 0.9 / 10), np.sqrt(0.1 * 0.9 / 1000)], rel=1e-2)
    assert chart.low[0] == 0.0


def test_published_constants() -> None:
    for n, c4 in ((2, 0.7979), (5, 0.9400), (10, 0.9727), (25, 0.9896)):
        assert shewhart.correction_c4(n) == pytest.approx(c4, abs=5e-5)
    pairs = np.random.default_rng(0).normal(size=(400_000, 2))
    ranges = np.abs(pairs[:, 0] - pairs[:, 1])
    assert pytest.approx(ranges.mean(), abs=5e-3) == shewhart.D2
    assert pytest.approx(1 + 3 * ranges.std() / ranges.mean(), abs=2e-2) == shewhart.D4


def test_single_values_and_their_ranges() -> None:
    x = [10.0, 12.0, 11.0, 15.0]
    chart, ranges = shewhart.chart_individuals(x), shewhart.chart_moving_ranges(x)
    mean_range = (2 + 1 + 4) / 3
    assert (chart.centre, chart.high[0]) == pytest.approx((12.0, 12.0 + 3 * mean_range / 1.128))
    assert ranges.values.tolist() == [2.0, 1.0, 4.0]
    assert (ranges.centre, ranges.low[0], ranges.high[0]) == pytest.approx((mean_range, 0.0, 3.267 * mean_range))


def test_the_deviation_of_means_is_that_within_the_groups() -> None:
    rng = np.random.default_rng(1)
    groups = [list(rng.normal(100 * (k % 2), 2.0, 4 + k % 3)) for k in range(400)]  # far apart, each narrow
    chart = shewhart.chart_means(groups)
    assert chart.deviations[0] * np.sqrt(4) == pytest.approx(2.0, rel=0.05)


def test_each_rule_is_what_it_says() -> None:
    z = np.random.default_rng(2).normal(0.3, 1.3, 2000)
    chart = ControlChart(z, 0.0, np.ones_like(z))
    for flags, (_, window, number, distance) in zip(shewhart.find_signals(chart), shewhart.RULES, strict=True):
        expected = []
        for end in range(len(z)):
            last = z[max(0, end - window + 1) : end + 1]
            sides = (
                (sum(v > distance for v in last), z[end] > distance),
                (sum(v < -distance for v in last), z[end] < -distance),
            )
            expected.append(any(count >= number and beyond for count, beyond in sides))
        assert flags.tolist() == expected
        assert 0 < sum(expected) < len(z)


def test_average_run_lengths_are_the_published_ones() -> None:
    """Champ & Woodall (1987): 370.4 with the first rule alone, 91.75 with all four."""
    z = np.random.default_rng(3).normal(size=1_000_000)
    signals = shewhart.find_signals(ControlChart(z, 0.0, np.ones_like(z)))
    assert len(z) / signals[0].sum() == pytest.approx(370.4, rel=0.05)
    lengths, start = [], 0
    for _ in range(3000):  # each run begins afresh, with no point before it
        part = ControlChart(z[start : start + 1500], 0.0, np.ones(len(z[start : start + 1500])))
        first = int(np.argmax(np.any(shewhart.find_signals(part), axis=0)))
        lengths.append(first + 1)
        start += first + 1
    assert np.mean(lengths) == pytest.approx(91.75, rel=0.06)


def test_values_without_any_deviation_raise_no_signal() -> None:
    assert not np.any(shewhart.find_signals(shewhart.chart_shares([0, 0, 0], [10, 10, 10])))


def test_without_spread_within_the_groups_means_off_the_centre_are_signals() -> None:
    third = [0.1 + 0.2, 0.3, 0.3]  # differs by rounding alone
    chart = shewhart.chart_means([[1, 1], [1, 1], [5, 5], [1, 1], [1, 1]])
    assert not chart.has_spread
    assert shewhart.find_signals(chart)[0].all()  # the centre, 1.8, is none of the means
    chart = shewhart.chart_means([[2, 2], [1, 1], [5, 5], [1, 1], [1, 1]])
    assert shewhart.find_signals(chart)[0].tolist() == [False, True, True, True, True]
    for same in ([[0.1] * 3, [0.1] * 2] * 5, [third, [0.3, 0.3]] * 5):
        assert not np.any(shewhart.find_signals(shewhart.chart_means(same)))
    assert shewhart.chart_means([[1, 2], [1, 2]]).has_spread
