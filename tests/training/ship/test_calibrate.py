"""Thresholds keep what they promise, on scores sampled from known distributions."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from sklearn.metrics import f1_score

from blemish.dataset.sample import Sample
from blemish.inspection.decide import decide
from blemish.inspection.result import Inspection, Verdict
from blemish.training.ship.calibrate import (
    CalibrationTarget,
    UnitScores,
    calibrate,
    cost_threshold,
    escape_threshold,
    good_threshold,
    has_own_thresholds,
    min_parts,
)
from blemish.training.ship.calibration_data import CalibrationData, class_thresholds, collect_by_product

NOTHING = np.empty(0)


def evidence(good, defective, peaks):
    return CalibrationData(good.tolist(), defective.tolist(), peaks.tolist())


@pytest.mark.parametrize(("count", "rate"), [(99, 0.01), (199, 0.05), (1000, 0.02)])
def test_new_good_parts_exceed_the_threshold_no_more_often_than_promised(count, rate):
    rng = np.random.default_rng(0)
    thresholds = [good_threshold(rng.gamma(3, size=count).astype(np.float32), rate) for _ in range(2000)]
    new = rng.gamma(3, size=(2000, 50)).astype(np.float32)
    exceeded = (new >= np.asarray(thresholds)[:, None]).mean()
    # The rank gives a rate between (rate - 1/(n+1)) and rate; 4 standard errors of room.
    assert rate - 1 / (count + 1) - 0.002 < exceeded < rate + 0.002


@pytest.mark.parametrize(("rate", "parts"), [(0.01, 99), (0.05, 19), (0.001, 999)])
def test_parts_to_promise_is_where_the_rank_first_exists(rate, parts):
    assert min_parts(rate) == parts
    scores = np.arange(parts, dtype=np.float32)
    assert good_threshold(scores, rate) > scores[-1]
    assert good_threshold(np.arange(2 * parts + 1, dtype=np.float32), rate) < 2 * parts


def test_the_rank_is_not_one_too_high_by_rounding():
    assert 58 <= good_threshold(np.arange(1.0, 100.0), 0.42) < 59  # 100 * (1 - 0.42) is a little above 58


def test_good_parts_on_which_nothing_is_found_pass():
    """A detector's images without a box all score 0."""
    scores = CalibrationData([0.0] * 120, [0.0, 0.4, 0.8, 0.9])
    decision, _ = calibrate(scores, CalibrationTarget(), "held-out")
    assert decide(0.0, "good", [], decision, None).verdict == Verdict.PASS
    assert decide(0.4, "pit", [], decision, None).verdict == Verdict.REJECT


def test_training_images_promise_no_error_rate():
    scores = CalibrationData([0.1] * 120, [0.9])
    assert calibrate(scores, CalibrationTarget(), "held-out")[1].false_alarm is not None
    for target in (CalibrationTarget(), CalibrationTarget(escape=0.0)):
        _, kept = calibrate(scores, target, "training")
        assert (kept.source, kept.false_alarm, kept.escape) == ("training", None, None)
        assert kept.target == "chosen by training images"  # and no rate, which 120 of them would not promise either
        assert any("training images" in line for line in kept.warnings)
        assert not any("validation images cannot promise" in line for line in kept.warnings)


def test_a_classifier_of_defects_alone_says_that_no_rate_of_false_alarms_can_be_promised():
    data = CalibrationData(defective=[0.9, 0.8], classes=[(frozenset(["pit"]), {"pit": 0.9, "dent": 0.1})])
    decision, kept = calibrate(data, CalibrationTarget(), "held-out")
    assert (decision.review, decision.reject) == (0.0, 0.5)
    assert "no good validation images: no false-alarm rate can be promised" in kept.warnings


def test_images_of_which_nothing_is_known_do_not_count_as_good():
    found = CalibrationData()
    for label, score in (("good", 0.1), (None, 0.7), ("pit", 0.9)):
        found.add(Inspection(Verdict.PASS, "good", score, [], (8, 8)), Sample(Path("x.png"), label), ())
    assert (found.good, found.defective, found.unknown) == ([0.1], [0.9], 1)
    _, kept = calibrate(found, CalibrationTarget(), "held-out")
    assert kept.good_images == 1
    assert any("not labelled" in line for line in kept.warnings)


def test_images_whose_score_is_no_number_choose_no_threshold():
    found = CalibrationData()
    odd = np.array([[0.1, np.nan]], np.float32)
    for label, score, heat in (("good", 0.1, None), ("good", np.nan, None), ("pit", 0.9, None), ("pit", np.inf, None),
                               ("good", 0.5, odd)):  # fmt: skip
        found.add(Inspection(Verdict.PASS, "good", score, [], (1, 2), heat), Sample(Path("x.png"), label), ())
    assert (found.good, found.defective, found.unscored) == ([0.1], [0.9], 3)
    decision, kept = calibrate(found, CalibrationTarget(), "held-out")
    assert np.isfinite([decision.review, decision.reject]).all()
    assert any("3 validation images have a score or a heat map that is not a number" in line for line in kept.warnings)


@pytest.mark.parametrize(("count", "rate"), [(19, 0.05), (20, 0.1), (99, 0.01), (200, 0.02)])
def test_new_defective_parts_pass_no_more_often_than_promised(count, rate):
    rng = np.random.default_rng(1)
    thresholds = [escape_threshold(rng.normal(2, 1, size=count), rate) for _ in range(2000)]
    passed = (rng.normal(2, 1, size=(2000, 50)) < np.asarray(thresholds)[:, None]).mean()
    assert rate - 1 / (count + 1) - 0.002 < passed < rate + 0.002


@pytest.mark.parametrize(("defects", "rate", "promised"), [(3, 0.01, False), (98, 0.01, False), (99, 0.01, True),
                                                           (500, 0.0, False)])  # fmt: skip
def test_too_few_defects_promise_no_escape_rate(defects, rate, promised):
    rng = np.random.default_rng(2)
    good, defective = rng.normal(0, 1, 99), rng.normal(4, 1, defects)
    decision, kept = calibrate(evidence(good, defective, NOTHING), CalibrationTarget(escape=rate), "held-out")
    assert any("cannot promise an escape rate" in line for line in kept.warnings) != promised
    assert promised or decision.review < defective.min()


@pytest.mark.parametrize("good", [[], [0.1, 0.2]])
def test_with_few_good_images_an_escape_target_promises_no_false_alarm_rate(good):
    scores = CalibrationData(good, list(np.linspace(0.5, 0.9, 99)))
    _, kept = calibrate(scores, CalibrationTarget(escape=0.01), "held-out")
    assert ["false-alarm rate" in line and "promise" in line for line in kept.warnings] == [True]


@pytest.mark.parametrize("good", [0, 2, 500])
def test_costs_promise_no_rate_and_say_on_what_they_are_the_lowest(good):
    rng = np.random.default_rng(3)
    scores = evidence(rng.normal(0, 1, good), rng.normal(2, 1, 3), NOTHING)
    _, kept = calibrate(scores, CalibrationTarget(cost_escape=10), "held-out")
    assert f"{good} good images and 3 defective images, which chose the threshold" in kept.warnings[0]
    assert "no rate is promised" in kept.warnings[0]


def shots_of_parts(rng, parts):
    """Scores of 1 to 30 images of each part, which differ little, and the part of each."""
    units = np.repeat(np.arange(parts), rng.integers(1, 31, parts))
    return (rng.normal(size=parts)[units] + rng.normal(0, 0.05, len(units))), units.tolist()


@pytest.mark.parametrize(("parts", "rate"), [(19, 0.05), (99, 0.01), (40, 0.1)])
def test_new_parts_exceed_the_threshold_from_few_parts_of_many_images_no_more_often_than_promised(parts, rate):
    rng = np.random.default_rng(5)
    chosen = []
    for _ in range(1500):
        scores, units = shots_of_parts(rng, parts)
        chosen.append((good_threshold(scores, rate, units), escape_threshold(-scores, rate, units)))
    new = rng.normal(size=(1500, 50)) + rng.normal(0, 0.05, (1500, 50))
    high, low = np.array(chosen).T
    np.testing.assert_allclose(low, -high)
    assert rate - 1 / (parts + 1) - 0.003 < (new >= high[:, None]).mean() < rate + 0.003


def test_many_images_of_few_parts_promise_what_so_few_parts_do():
    rng = np.random.default_rng(6)
    units = np.repeat(np.arange(5), 20).tolist()
    scores = rng.normal(size=100).tolist()
    data = CalibrationData(scores, [5.0] * 300, good_units=units, defective_units=["c"] * 300)
    decision, kept = calibrate(data, CalibrationTarget(), "held-out")
    assert (kept.good_images, kept.good_parts, kept.defect_images, kept.defect_parts) == (100, 5, 300, 1)
    assert kept.false_alarm[2] == pytest.approx(1 - 0.025 ** (1 / 5))  # none of 5, by Clopper and Pearson
    assert kept.escape[2] == pytest.approx(0.975)  # none of 1
    assert decision.review > max(scores)
    assert "100 good validation images of only 5 parts cannot promise a false-alarm rate of 0.01" in kept.warnings[0]
    assert any("300 defective validation images of only 1 part," in line for line in kept.warnings)
    assert not has_own_thresholds(data)
    alone = calibrate(replace(data, good_units=[], defective_units=[]), CalibrationTarget(), "held-out")[1]
    assert (alone.good_parts, alone.warnings) == (100, [])


def test_copies_of_one_image_are_one_part(tmp_path):
    samples = []
    for i in range(12):
        (tmp_path / f"{i}.png").write_bytes(b"the same" if i < 9 else bytes([i]))
        samples.append(Sample(tmp_path / f"{i}.png", "good"))
    results = [Inspection(Verdict.PASS, "good", 0.1 * i, [], (8, 8)) for i in range(12)]
    data, _ = collect_by_product(results, samples, ())
    assert calibrate(data, CalibrationTarget(), "held-out")[1].good_parts == 4


@pytest.mark.parametrize("cost", [0.2, 1.0, 20.0])
def test_cost_threshold_is_no_dearer_than_any_other(cost):
    rng = np.random.default_rng(2)
    good, defective = rng.normal(0, 1, 80), rng.normal(1.5, 1, 40)

    def price(threshold: float) -> float:
        return float((good >= threshold).mean() + cost * (defective < threshold).mean())

    sides = (UnitScores.make(side, []) for side in (good, defective))
    chosen = price(cost_threshold(*sides, cost))
    assert chosen <= min(price(t) for t in np.linspace(-4, 6, 2001)) + 1e-12


def test_regions_of_good_images_are_as_rare_as_reviews():
    rng = np.random.default_rng(4)
    shown = []
    for _ in range(400):
        known, new = rng.gamma(3, size=99), rng.gamma(3, size=50)
        target = CalibrationTarget(false_alarm=0.01, review=0.1)
        decision, _ = calibrate(evidence(known, NOTHING, known), target, "held-out")
        shown.append((new >= decision.map_high).mean())
    assert 0.08 < np.mean(shown) < 0.105  # of the promised 0.1
    decision, _ = calibrate(evidence(known, NOTHING, known), CalibrationTarget(false_alarm=0.2, review=0.1), "held-out")
    assert decision.map_high < np.quantile(known, 0.9)  # the larger of the two rates


def test_good_only_gives_two_thresholds_and_warns_when_images_are_too_few():
    few = np.random.default_rng(3).gamma(3, size=20).astype(np.float32)
    decision, calibration = calibrate(evidence(few, NOTHING, few * 2), CalibrationTarget(), "held-out")
    assert decision.review <= decision.reject
    assert decision.map_low <= decision.map_high
    assert "cannot promise" in calibration.warnings[0]
    value, low, high = calibration.false_alarm
    assert value == 0
    assert low == 0
    assert 0.1 < high < 0.2  # 20 of 20 below: the 95 % interval reaches 1 - 0.025 ** (1 / 20) = 0.168
    many = np.random.default_rng(3).gamma(3, size=500).astype(np.float32)
    assert not calibrate(evidence(many, NOTHING, many), CalibrationTarget(), "held-out")[1].warnings


def test_with_defects_what_escapes_stays_below_the_target():
    rng = np.random.default_rng(4)
    good, defective = rng.normal(0, 1, 300), rng.normal(4, 1, 200)
    decision, calibration = calibrate(evidence(good, defective, NOTHING), CalibrationTarget(escape=0.02), "held-out")
    assert calibration.source == "validation"
    assert (defective < decision.review).mean() <= 0.02
    assert decision.reject >= decision.review
    assert calibration.escape[0] <= 0.02 <= calibration.escape[2]
    assert "escape" in calibration.target


def test_an_escape_target_without_defects_says_so():
    good = np.random.default_rng(5).normal(size=200)
    _, calibration = calibrate(evidence(good, NOTHING, NOTHING), CalibrationTarget(escape=0.01), "held-out")
    assert "no defective validation images" in calibration.warnings[0]


def test_the_threshold_moves_up_to_the_next_defect_and_lets_no_more_escape():
    good, defective = np.linspace(0, 1, 200), np.array([0.4, 3.0, 4.0])
    alone, _ = calibrate(evidence(good, NOTHING, NOTHING), CalibrationTarget(), "held-out")
    both, figures = calibrate(evidence(good, defective, NOTHING), CalibrationTarget(), "held-out")
    assert both.reject == pytest.approx((alone.reject + 3.0) / 2)
    assert both.review == alone.review
    assert figures.escape[0] == pytest.approx(1 / 3)


def test_without_good_images_nothing_is_promised():
    decision, calibration = calibrate(evidence(NOTHING, np.ones(5), NOTHING), CalibrationTarget(), "held-out")
    assert decision.reject is None
    assert decision.review is None
    assert "no good validation images" in calibration.warnings[0]
    assert calibration.false_alarm is None


def test_regions_are_seeded_by_known_defects_where_no_image_is_good():
    """One image with a false peak above all defects does not hide these; of it, verdicts alone take account."""
    sound, defects = [0.1] * 30 + [0.2] * 9 + [0.95], [[0.5, 0.6, 0.7]] * 40
    found = CalibrationData(defective=[0.95] * 40, sound_peaks=sound, defect_peaks=defects)
    decision, _ = calibrate(found, CalibrationTarget(), "held-out")
    assert 0.2 < decision.map_high < 0.5
    assert decision.map_low == 0.1
    assert decision.reject > 0.95 - 1e-9
    decision, _ = calibrate(replace(found, good=sound, good_peaks=sound), CalibrationTarget(), "held-out")
    assert decision.map_high == good_threshold(np.array(sound), 0.05)


@pytest.mark.parametrize(
    ("evidence", "enough"),
    [
        (CalibrationData(good=[0.1] * 9), True),
        (CalibrationData(good=[0.1] * 8, defective=[0.9] * 50), False),
        (CalibrationData(defective=[0.9] * 50), False),
        (CalibrationData(defective=[0.9] * 9, sound_peaks=[0.1] * 9), True),
    ],
)
def test_a_product_decides_alone_where_a_tenth_of_false_alarms_can_be_promised(evidence, enough):
    assert has_own_thresholds(evidence) == enough


def labelled_scores(seed: int) -> tuple[list[frozenset[str]], list[dict[str, float]]]:
    """Images of good parts, scratches, pits and both, with probabilities that separate them more often than not."""
    rng = np.random.default_rng(seed)
    kinds = [frozenset(["good"]), frozenset(["scratch"]), frozenset(["pit"]), frozenset(["scratch", "pit"])]
    annotated = [kinds[i] for i in rng.integers(0, 4, 120)]
    scores = [
        {name: float(np.clip(0.4 * (name in own) + 0.6 * rng.random(), 0, 1)) for name in ("scratch", "pit")}
        for own in annotated
    ]
    return annotated, [{"good": 1 - max(own.values()), **own} for own in scores]


def test_class_thresholds_have_the_highest_f1_there_is():
    annotated, scores = labelled_scores(0)
    unknown = (frozenset(["never trained"]), scores[0])
    found = class_thresholds([*zip(annotated, scores, strict=True), unknown])
    assert set(found) == {"scratch", "pit"}
    annotated, scores = [*annotated, unknown[0]], [*scores, unknown[1]]
    for name, threshold in found.items():
        values = np.array([own[name] for own in scores])
        right = [name in own for own in annotated]
        best = max(f1_score(right, values >= level) for level in values)
        assert f1_score(right, values >= threshold) == pytest.approx(best)


def test_what_class_thresholds_promise_is_what_the_verdicts_show():
    annotated, scores = labelled_scores(1)
    evidence = CalibrationData()
    for i, (own, given) in enumerate(zip(annotated, scores, strict=True)):
        defects = tuple(sorted(own - {"good"}))
        sample = Sample(f"{i}.png", label=defects[0] if len(defects) == 1 else None if defects else "good",
                        labels=defects if len(defects) > 1 else None)  # fmt: skip
        result = Inspection(Verdict.REVIEW, "", 1 - given["good"], [], (8, 8), class_scores=given)
        evidence.add(result, sample, ["class_scores"])
    decision, calibration = calibrate(evidence, CalibrationTarget(per_class=True), "held-out")
    called = [any(given[name] >= t for name, t in decision.class_thresholds.items()) for given in scores]
    good = [own == {"good"} for own in annotated]
    assert calibration.false_alarm[0] == pytest.approx(np.mean([c for c, g in zip(called, good, strict=True) if g]))
    assert any("own thresholds" in line for line in calibration.warnings)
    rejected = [
        decide(1 - given["good"], "pit", [], decision, {k: v for k, v in given.items() if k != "good"}).verdict
        == Verdict.REJECT
        for given in scores
    ]
    assert rejected == called
