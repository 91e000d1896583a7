"""Attribute agreement: AIAG's printed rates, and a study whose figures are counted by hand."""

import numpy as np
import pytest

from blemish.errors import DataError
from blemish.evaluation.intervals import estimate_rate
from blemish.qualify.attribute import analyse_agreement, decision_rate, grade_appraiser


def test_rates_as_printed_by_aiag():
    """MSA, 4th edition, chapter III section C: 16 defective and 34 good parts in three trials."""
    for misses, alarms, printed in ((3, 5, (6.3, 4.9)), (3, 2, (6.3, 2.0)), (6, 9, (12.5, 8.8))):
        wrong = [np.arange(parts * 3).reshape(parts, 3) < number for parts, number in ((16, misses), (34, alarms))]
        found = [decision_rate(one).value for one in wrong]
        assert [100 * value for value in found] == pytest.approx(printed, abs=0.051)
    for agreed, printed in ((42, (71, 93)), (45, (78, 97)), (40, (66, 90)), (39, (64, 88))):
        found = estimate_rate(agreed, 50)
        assert (round(100 * found.low), round(100 * found.high)) == printed


def study():
    """Two appraisers, two repeats, four parts."""
    verdicts = np.array(
        [
            [["pass", "pass"], ["pass", "pass"]],
            [["pass", "reject"], ["pass", "pass"]],
            [["reject", "reject"], ["reject", "pass"]],
            [["reject", "reject"], ["reject", "reject"]],
        ]
    )
    return verdicts, np.array(["PASS", "pass", "reject", "reject"])


def test_a_study_counted_by_hand():
    found = analyse_agreement(["A", "B"], *study())
    a, b = found.appraisers
    assert (a.within.value, b.within.value) == (0.75, 0.75)
    assert (a.effectiveness.value, b.effectiveness.value) == (0.75, 0.75)
    assert (a.miss_rate.value, b.miss_rate.value) == (0, 0.25)
    assert (a.false_alarm_rate.value, b.false_alarm_rate.value) == (0.25, 0)
    assert (found.between.value, found.system.value) == (0.5, 0.5)
    assert found.pairs[0].kappa.value == pytest.approx((6 / 8 - 0.5) / 0.5, abs=0.03)
    assert found.categories == ["pass", "reject"]
    assert any("4 parts are few" in line for line in found.warnings)


def test_a_rate_of_decisions_promises_no_more_than_its_parts():
    found = decision_rate(np.zeros((16, 3), bool))
    assert (found.value, found.n) == (0, 48)
    assert found.high == pytest.approx(estimate_rate(0, 16).high)


def test_without_reference_and_without_good_verdicts():
    verdicts, _ = study()
    found = analyse_agreement(["A", "B"], verdicts, None)
    assert (found.system, found.appraisers[0].miss_rate) == (None, None)
    assert any("without a reference" in line for line in found.warnings)
    named = analyse_agreement(["A", "B"], *study(), good=["fine"])
    assert any("--good" in line for line in named.warnings)
    with pytest.raises(DataError, match="at least two parts"):
        analyse_agreement(["A"], verdicts[:, :1, :1], None)


@pytest.mark.parametrize(
    ("values", "grade"),
    [((0.9, 0.02, 0.05), "acceptable"), ((0.8, 0.05, 0.1), "marginal"), ((0.95, 0.0625, 0.0), "unacceptable")],
)
def test_guide_values(values, grade):
    assert grade_appraiser(*values) == grade


@pytest.mark.parametrize(("passed", "stopped"), [("good", "defect"), ("OK", "NG"), ("pass", "bad"), ("good", "reject")])
def test_references_in_other_words_mean_the_same(passed, stopped):
    verdicts, truth = study()
    words = np.array([passed if word.lower() == "pass" else stopped for word in truth])
    expected, found = (analyse_agreement(["A", "B"], verdicts, one) for one in (truth, words))
    for name in ("appraisers", "between", "system"):
        assert getattr(found, name) == getattr(expected, name)
    right = np.repeat(truth[:, None], 2, axis=1)[:, None]
    assert [own.grade for own in analyse_agreement(["line"], right, words).appraisers] == ["acceptable"]


def test_a_review_stops_a_part_where_the_reference_knows_only_defects():
    verdicts = np.array([[["pass"]], [["review"]], [["review"]]])
    found = analyse_agreement(["line"], verdicts, np.array(["good", "defect", "good"])).appraisers[0]
    assert (found.effectiveness.value, found.miss_rate.value, found.false_alarm_rate.value) == (
        pytest.approx(2 / 3), 0, 0.5,
    )  # fmt: skip


@pytest.mark.parametrize(
    ("verdicts", "reference", "word"),
    [
        (("pass", "reject"), ("gut", "schlecht"), "gut"),
        (("pass", "reject"), ("good", "scratch"), "scratch"),
        (("gut", "schlecht"), ("good", "bad"), "gut"),
        (("pass", "pass"), ("gut", "gut"), "gut"),
        (("goood", "bad"), ("good", "bad"), "goood"),
        (("good", "scratch"), ("good", "reject"), "scratch"),
    ],
)
def test_words_that_are_not_known_are_refused(verdicts, reference, word):
    ratings = np.array([[[own, own]] for own in verdicts])
    with pytest.raises(DataError, match=rf"whether '{word}' passes a part is not known; .* --good"):
        analyse_agreement(["A"], ratings, np.array(reference))


def test_classes_of_defects_in_both_are_compared_as_they_are():
    ratings = np.array([[["good"] * 2], [["scratch"] * 2], [["dent", "scratch"]], [["scratch"] * 2]])
    found = analyse_agreement(["A"], ratings, np.array(["ok", "scratch", "dent", "crack"]))
    assert (found.appraisers[0].effectiveness.value, found.appraisers[0].miss_rate.value) == (0.5, 0)
