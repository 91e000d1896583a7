"""Metrics of whole images and classes against scikit-learn."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import binomtest
from sklearn import metrics

from blemish.dataset.sample import Sample
from blemish.evaluation.class_metrics import class_metrics
from blemish.evaluation.defect_types import metrics_by_type
from blemish.evaluation.evaluate import EvaluatedImage
from blemish.evaluation.image_metrics import escape_at, image_metrics
from blemish.evaluation.ranking import auroc, average_precision, best_f1
from blemish.evaluation.units import estimate_share
from blemish.inspection.result import Verdict

PASS, REVIEW, REJECT = Verdict.PASS, Verdict.REVIEW, Verdict.REJECT
# Few distinct scores, so that ties within and across the two kinds are the rule.
SCORED = st.lists(st.tuples(st.integers(0, 6), st.booleans()), min_size=2, max_size=60).filter(
    lambda rows: len({defective for _, defective in rows}) == 2
)


@given(SCORED)
def test_ranking_metrics_agree_with_scikit_learn(rows):
    scores, defective = np.array([s / 7 for s, _ in rows]), np.array([d for _, d in rows])
    assert auroc(scores, defective) == pytest.approx(metrics.roc_auc_score(defective, scores), abs=1e-12)
    assert average_precision(scores, defective) == pytest.approx(
        metrics.average_precision_score(defective, scores), abs=1e-12
    )
    value, threshold, _ = best_f1(scores, defective)
    every = [metrics.f1_score(defective, scores >= t) for t in np.unique(scores)]
    assert value == pytest.approx(max(every), abs=1e-12)
    assert metrics.f1_score(defective, scores >= threshold) == pytest.approx(value, abs=1e-12)


def test_reviews_are_neither_escapes_nor_overkill():
    defective = np.array([True] * 4 + [False] * 5)
    verdicts = [PASS, REVIEW, REJECT, REJECT, PASS, PASS, PASS, REVIEW, REJECT]
    measured = image_metrics(np.arange(9.0), defective, verdicts)
    assert (measured.escape_rate.value, measured.escape_rate.n) == (1 / 4, 4)
    assert (measured.overkill_rate.value, measured.overkill_rate.n) == (1 / 5, 5)
    assert (measured.review_rate.value, measured.review_rate.n) == (2 / 9, 9)
    assert measured.f1 == pytest.approx(metrics.f1_score(defective, [v != PASS for v in verdicts]))
    assert (measured.proof.escapes, measured.proof.defective) == (1, 4)


def test_metrics_that_need_the_missing_kind_are_absent():
    good = image_metrics(np.arange(3.0), np.zeros(3, bool), [PASS, PASS, REJECT])
    assert (good.auroc, good.ap, good.f1, good.escape_rate, good.proof) == (None,) * 5
    assert good.overkill_rate.value == pytest.approx(1 / 3)
    bad = image_metrics(np.arange(3.0), np.ones(3, bool), [PASS, REJECT, REJECT])
    assert (bad.auroc, bad.overkill_rate) == (None, None)
    assert bad.escape_rate.value == pytest.approx(1 / 3)


@given(SCORED, st.sampled_from([0.01, 0.05, 0.2, 0.5]))
def test_escapes_at_a_false_alarm_rate_are_those_of_the_roc(rows, rate):
    scores, defective = np.array([s / 7 for s, _ in rows]), np.array([d for _, d in rows])
    alarms, hits, _ = metrics.roc_curve(defective, scores, drop_intermediate=False)
    found = escape_at(scores, defective, rate, [None] * len(scores))
    assert found.value == pytest.approx(1 - hits[alarms <= rate + 1e-9].max())
    assert found.n == defective.sum()
    exact = binomtest(round(found.value * found.n), found.n).proportion_ci(method="exact")
    assert (found.low, found.high) == pytest.approx((exact.low, exact.high), abs=1e-6)


def test_metrics_state_escapes_at_1_and_5_percent():
    defective = np.arange(220) >= 200
    scores = np.where(defective, np.arange(220) - 30.5, np.arange(220)).astype(float)  # 169.5 … 188.5 against 0 … 199
    measured = image_metrics(scores, defective, [PASS] * 220)
    assert measured.escape_at_1_percent.value == 1.0  # above 197
    assert measured.escape_at_5_percent.value == 1.0  # above 189
    assert escape_at(scores, defective, 0.10, [None] * 220).value == 10 / 20  # above 179


NAMES = st.sampled_from(["good", "crack", "pit", "stain"])


@pytest.mark.filterwarnings("ignore:y_pred contains classes not in y_true", "ignore:A single label was found")
@given(st.lists(st.tuples(NAMES, NAMES), min_size=1, max_size=40))
def test_class_metrics_agree_with_scikit_learn(pairs):
    annotated, predicted = [t for t, _ in pairs], [p for _, p in pairs]
    measured = class_metrics(annotated, predicted)
    names = measured.classes
    assert "good" not in names[1:]
    np.testing.assert_array_equal(measured.confusion, metrics.confusion_matrix(annotated, predicted, labels=names))
    assert measured.accuracy.value == pytest.approx(metrics.accuracy_score(annotated, predicted))
    assert measured.macro_f1 == pytest.approx(metrics.f1_score(annotated, predicted, labels=names, average="macro"))
    occurring = sorted(set(annotated))
    recall = metrics.recall_score(annotated, predicted, labels=occurring, average=None)
    assert measured.balanced_accuracy == pytest.approx(recall.mean())
    assert [measured.recall[name].value for name in occurring] == pytest.approx(list(recall))
    called = sorted(set(predicted))
    precision = metrics.precision_score(annotated, predicted, labels=called, average=None)
    assert [measured.precision[name].value for name in called] == pytest.approx(list(precision))
    assert all(measured.recall[name] is None for name in set(names) - set(annotated))


def test_a_score_that_is_no_number_has_no_rank():
    scores = np.array([0.1, 0.2, 0.9, 0.3, 0.4])
    defective = np.array([False, False, False, True, True])
    verdicts = [Verdict.PASS] * 5
    expected = image_metrics(scores, defective, verdicts)
    found = image_metrics(np.append(scores, np.nan), np.append(defective, False), [*verdicts, Verdict.REVIEW])
    for name in ("auroc", "ap", "best_f1", "escape_at_1_percent", "escape_at_5_percent"):
        assert getattr(found, name) == getattr(expected, name), name
    assert found.review_rate.value == pytest.approx(1 / 6)


def test_many_images_of_few_parts_prove_what_so_few_parts_do():
    """300 copies of a defective image, and six good parts of several images, one image of which is rejected."""
    defective = np.arange(324) >= 24
    verdicts = [REJECT, *[PASS] * 23, *[REJECT] * 300]
    units = [*(f"good {i // 4}" for i in range(24)), *["crack"] * 300]
    measured = image_metrics(defective * 1.0, defective, verdicts, units)
    assert (measured.escape_rate.value, measured.escape_rate.n) == (0, 1)
    assert measured.escape_rate.high == pytest.approx(0.975)
    assert (measured.proof.defective, measured.proof.proven) == (1, pytest.approx(0.95))
    assert measured.overkill_rate.value == pytest.approx(1 / 24)  # a quarter of one of six parts
    assert measured.overkill_rate.high == pytest.approx(binomtest(1, 6).proportion_ci(method="exact").high)
    assert (measured.overkill_rate.low, measured.overkill_rate.n) == (0, 6)
    assert measured.auroc.n == 7
    assert measured.auroc.low < 0.1  # one pair of parts in order
    assert measured.escape_at_1_percent.n == 1


def test_copies_of_all_images_change_no_interval():
    rng = np.random.default_rng(0)
    scores, defective = rng.normal(size=60).round(1), np.arange(60) % 3 == 0
    scores[defective] += 1
    verdicts = [(PASS, REVIEW, REJECT)[i] for i in rng.integers(0, 3, 60)]
    alone = image_metrics(scores, defective, verdicts)
    copies = image_metrics(np.repeat(scores, 5), np.repeat(defective, 5), [v for v in verdicts for _ in range(5)],
                           [i // 5 for i in range(300)])  # fmt: skip
    for name in ("auroc", "escape_rate", "overkill_rate", "review_rate", "escape_at_1_percent", "escape_at_5_percent"):
        one, many = getattr(alone, name), getattr(copies, name)
        assert (many.value, many.low, many.high, many.n) == pytest.approx((one.value, one.low, one.high, one.n)), name
    assert copies.proof == alone.proof
    measured = class_metrics(["a", "b"] * 20, ["a", "a", "b", "b"] * 10, units=[i // 4 for i in range(40)])
    assert measured.accuracy.n == 10
    assert (measured.recall["a"].value, measured.recall["a"].n) == (pytest.approx(0.5), 10)


def test_the_interval_of_shots_of_few_parts_covers_the_rate_of_new_parts():
    """12 parts of which each escapes with probability 0.2 in all its 1 to 30 images."""
    rng, held = np.random.default_rng(1), 0
    for _ in range(400):
        units = np.repeat(np.arange(12), rng.integers(1, 31, 12))
        rate = estimate_share((rng.random(12) < 0.2)[units], units.tolist())
        held += rate.low <= 0.2 <= rate.high
    assert held / 400 >= 0.94


def test_images_of_a_type_whose_score_is_no_number_have_no_rank_and_are_counted():
    def one(label, score):
        return EvaluatedImage(Sample(f"{label}{score}.png", label), PASS, score, None, None, None, None, None)

    images = [one("good", s) for s in (0.1, 0.2, 0.6)] + [one("pit", s) for s in (0.5, 0.9)]
    images += [one("dent", 0.7)]
    odd = [*images, one("good", np.nan), one("pit", np.nan), one("pit", np.inf), one("stain", np.nan)]
    without, found = metrics_by_type(images), metrics_by_type(odd)
    for name in ("pit", "dent"):
        assert replace(found[name], images=0, unscored=0) == replace(without[name], images=0)
    assert (found["pit"].images, found["pit"].unscored, found["dent"].unscored) == (4, 2, 0)
    assert (found["stain"].unscored, found["stain"].auroc, found["stain"].escape_at_1_percent) == (1, None, None)
