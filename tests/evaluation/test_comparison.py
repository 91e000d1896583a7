"""Metrics of resampled images against the plain metrics of the images written out; ranking, choice, Pareto front."""

from dataclasses import replace
from functools import partial
from itertools import permutations

import numpy as np
import pytest

from blemish.errors import DataError
from blemish.evaluation import comparison
from blemish.evaluation.bootstrap import (
    Difference,
    auroc_statistic,
    draw_resamples,
    iou_statistic,
    macro_f1_statistic,
    map50_statistic,
)
from blemish.evaluation.box_metrics import box_metrics
from blemish.evaluation.class_metrics import class_metrics
from blemish.evaluation.comparison import (
    MethodCost,
    RankedMethod,
    choose_method,
    list_notes,
    pareto_front,
    rank_methods,
    select_metric,
    shared_images,
)
from blemish.evaluation.detections import Detections
from blemish.evaluation.predictions import Prediction, make_prediction
from blemish.evaluation.ranking import auroc


def image(number, **known):
    empty = {"group": None, "true_label": None, "defective": None, "score": 0.0, "label": None}
    pixels = {"intersection": None, "union": None, "boxes": None, "defects": None}
    return Prediction(**{"image": f"{number}.png", **empty, **pixels, **known})


def draws(count, seed=0):
    return draw_resamples([0] * count, draws=25, seed=seed)


def parts(count=40, noise=1.0, seed=0):
    """Good and defective images in turn, with scores in two decimals, so that some are equal."""
    rng = np.random.default_rng(seed)
    scores = (np.arange(count) % 2 + noise * rng.normal(size=count)).round(2)
    return [image(k, defective=bool(k % 2), score=float(s)) for k, s in enumerate(scores)]


def test_auroc_of_drawn_images():
    images = parts()
    metric = auroc_statistic(images)
    for sampled in draws(len(images)):
        own = [images[k] for k in sampled]
        expected = auroc(np.array([i.score for i in own]), np.array([i.defective for i in own]))
        assert metric(sampled) == pytest.approx(expected)


def test_auroc_compares_images_of_one_fold():
    """The second fold's network has another scale; all its pairs are in order none the less."""
    images = [replace(i, score=1000 + i.score, fold=1) for i in parts(20, 0)] + parts(20, seed=3)
    pairs = [a.score < b.score or 0.5 * (a.score == b.score)
             for a in images for b in images if a.fold == b.fold and not a.defective and b.defective]  # fmt: skip
    assert auroc_statistic(images)(np.arange(40)) == pytest.approx(np.mean(pairs))
    assert auroc_statistic([i for i in images if i.defective]) is None


def test_macro_f1_of_drawn_images():
    rng = np.random.default_rng(1)
    names = [("pit", "scratch", "stain")[k] for k in rng.integers(0, 3, 60)]
    called = [n if r < 0.6 else "pit" for n, r in zip(names, rng.random(60), strict=True)]
    images = [image(k, true_label=t, label=p) for k, (t, p) in enumerate(zip(names, called, strict=True))]
    for sampled in draws(60):
        expected = class_metrics([names[k] for k in sampled], [called[k] for k in sampled]).macro_f1
        assert macro_f1_statistic(images)(sampled) == pytest.approx(expected)


def test_map50_of_drawn_images():
    rng = np.random.default_rng(2)
    seen = []
    for _ in range(15):
        annotated = [("pit", "dent")[k] for k in rng.integers(0, 2, rng.integers(0, 4))]
        labels = [("pit", "dent", "never")[k] for k in rng.integers(0, 3, rng.integers(0, 6))]
        seen.append(Detections(rng.random(len(labels)), labels, annotated, rng.random((len(labels), len(annotated)))))
    images = [make_prediction(_seen(k, actual)) for k, actual in enumerate(seen)]
    assert [Prediction.from_dict(i.to_dict()) for i in images] == images
    for sampled in draws(15):
        assert map50_statistic(images)(sampled) == pytest.approx(box_metrics([seen[k] for k in sampled]).map50)


def _seen(number, detections):
    from blemish.dataset.sample import Sample
    from blemish.evaluation.evaluate import EvaluatedImage
    from blemish.inspection.result import Verdict

    return EvaluatedImage(Sample(f"{number}.png"), Verdict.PASS, 0.0, None, None, None, None, detections)


def test_iou_of_drawn_images():
    images = [image(0, intersection=3, union=6), image(1, intersection=0, union=2), image(2, intersection=0, union=0)]
    assert iou_statistic(images)(np.array([0, 0, 1, 2])) == pytest.approx(6 / 14)
    assert np.isnan(iou_statistic(images)(np.array([2, 2, 2])))
    assert iou_statistic([image(0)]) is None


def test_methods_rank_by_the_metric_that_most_have():
    evaluated = {"a": parts(seed=1), "b": parts(noise=0.1), "c": [image(0, intersection=1, union=2)]}
    assert select_metric(evaluated) == "auroc"
    ranking = rank_methods(evaluated, "auroc")
    assert [s.method for s in ranking] == ["b", "a"]
    assert ranking[0].difference is None
    assert ranking[1].significantly_worse
    assert ranking[1].difference.value == pytest.approx(ranking[1].value - ranking[0].value)
    assert ranking[1].low < ranking[1].value < ranking[1].high
    with pytest.raises(DataError, match="no method has the metric mAP50"):
        select_metric(evaluated, "map50")
    with pytest.raises(DataError, match="nothing to compare by"):
        select_metric({"a": [image(0)]})


def made(scores, defective, folds=None, groups=None):
    return [
        image(k, defective=bool(bad), score=float(score), fold=0 if folds is None else int(folds[k]),
              group=None if groups is None else groups[k])
        for k, (score, bad) in enumerate(zip(scores, defective, strict=True))
    ]  # fmt: skip


@pytest.mark.parametrize("bad_in_fold", [1, 2])
def test_equal_methods_are_rarely_significant_with_few_defects_in_each_fold(bad_in_fold, monkeypatch):
    monkeypatch.setattr(comparison, "draw_resamples", partial(draw_resamples, draws=300))
    rng, wrong = np.random.default_rng(3), 0
    folds = np.repeat(np.arange(5), 20 + bad_in_fold)
    defective = np.tile(np.arange(20 + bad_in_fold) >= 20, 5)
    for _ in range(40):
        scores = [rng.normal(defective * 1.0, 1) for _ in range(2)]
        ranking = rank_methods(dict(zip("ab", (made(own, defective, folds) for own in scores), strict=True)), "auroc")
        wrong += ranking[1].significantly_worse
        assert ranking[1].difference.high - ranking[1].difference.low > 0.1
    assert wrong / 40 <= 0.1
    clear = {
        name: made(own, defective, folds)
        for name, own in zip("ab", (scores[0] + 9 * defective, scores[1] - 9 * defective), strict=True)
    }
    assert rank_methods(clear, "auroc")[1].significantly_worse


@pytest.mark.parametrize(("defects", "groups", "words"), [
    (1, None, "take 5 defective parts; there are 1"),
    (4, None, "take 5 defective parts; there are 4"),
    (20, "part", "take 5 good parts; there are 1"),
])  # fmt: skip
def test_a_class_of_few_parts_gives_no_interval_and_says_why(defects, groups, words):
    defective = np.arange(30 + defects) >= 30
    own = [groups if not bad and groups else None for bad in defective]
    first = made(np.arange(len(defective)), defective, groups=own)
    second = made(-np.arange(len(defective)), defective, groups=own)
    best, other = rank_methods({"a": first, "b": second}, "auroc")
    assert (best.value, other.value) == (1, 0)
    assert (best.low, best.high, other.difference.low, other.difference.better) == (None,) * 4
    assert not other.significantly_worse
    assert words in str(list_notes([best, other])[0])
    assert len(list_notes([best, other])) == 1
    near = replace(other, value=0.99, difference=replace(other.difference, value=-0.01))
    choice = choose_method([best, near], {"a": MethodCost(100, 50), "b": MethodCost(10, 50)}, "auroc")
    assert "nothing is known of the interval" in choice.reason


def test_a_class_of_labels_with_few_images_gives_no_interval_of_macro_f1():
    names = ["pit"] * 20 + ["dent"] * 4
    images = [image(k, true_label=name, label="pit") for k, name in enumerate(names)]
    (only,) = rank_methods({"a": images}, "macro-f1")
    assert (only.low, only.high) == (None, None)
    assert "of dent there are 4" in str(only.notes[0])


def test_images_without_a_score_rank_a_method_below_others():
    rng = np.random.default_rng(0)
    defective = np.arange(60) >= 30
    scored = rng.normal(defective * 2.0, 1)
    partly, never = scored.copy(), scored.copy()
    partly[[0, 40]] = np.nan, np.inf
    never[30:] = np.nan
    images = {"never": made(never, defective), "all": made(scored, defective), "partly": made(partly, defective)}
    ranking = rank_methods(images, "auroc")
    assert [own.method for own in ranking] == ["all", "partly", "never"]
    assert ranking[2].value == 0
    wrong = np.array([[g if k else 99.0 for k, g in enumerate(scored[:30])]])
    bad = np.where(np.arange(30, 60) == 40, -99.0, scored[30:])[:, None]
    assert ranking[1].value == pytest.approx((bad > wrong).mean())
    notes = [str(note) for note in list_notes(ranking)]
    assert notes == ["partly gives no number as the score of 2 images; they count as ranked wrong",
                     "never gives no number as the score of 30 images; they count as ranked wrong"]  # fmt: skip


def test_only_images_that_all_methods_share_are_compared():
    shared = shared_images({"a": parts(10), "b": parts(10)[::-1][2:]})
    assert [i.image for i in shared["a"]] == [i.image for i in shared["b"]]
    assert len(shared["a"]) == 8


def ranked(method, value, low=None, high=None):
    difference = None if low is None else Difference(-0.01, low, high, 0.4, 100)
    return RankedMethod(method, value, value - 0.02, value + 0.02, difference)


BEST, SMALL = ranked("best", 0.9), ranked("small", 0.89, -0.03, 0.01)
CASES = {
    "clearly better": ([BEST, ranked("fast", 0.8, -0.2, -0.01)], "best", "no interval"),
    "not significant": ([BEST, ranked("fast", 0.89, -0.03, 0.01)], "fast", "includes zero; fast is faster"),
    "no cheaper": ([ranked("fast", 0.9), ranked("best", 0.89, -0.03, 0.01)], "fast", "no significant lead over"),
    "as fast, smaller": ([BEST, SMALL], "small", "smaller (3 against 50 MB)"),
    "as fast and small": ([BEST, ranked("like", 0.89, -0.03, 0.01)], "best", "no significant lead over"),
    "far below": (
        [BEST, ranked("fast", 0.87, -0.12, 0.04)],
        "best",
        "too few to prove a lead over fast, but more than 0.02 below",
    ),
    "just within": ([BEST, ranked("fast", 0.88, -0.12, 0.04)], "fast", "the two are within 0.02"),
    "one of two": ([BEST, SMALL, ranked("fast", 0.5, -0.9, 0.1)], "small", "smaller (3 against 50 MB)"),
    "the same": (
        [BEST, ranked("fast", 0.9, 0.0, 0.0)],
        "fast",
        "best and fast have the same image AUROC, 0.900; fast is faster",
    ),
    "alone": ([BEST], "best", "the only method"),
}


@pytest.mark.parametrize("case", CASES)
def test_the_fastest_of_methods_without_significant_difference_is_chosen(case):
    ranking, method, words = CASES[case]
    costs = {"best": (100, 50), "fast": (20, 80), "small": (105, 3), "like": (98, 49)}
    costs = {name: MethodCost(*own) for name, own in costs.items()}
    choice = choose_method(ranking, costs, "auroc")
    assert choice.method == method
    assert words in choice.reason


def test_the_pareto_front_is_what_no_other_beats():
    rng = np.random.default_rng(0)
    quality, cost = ({str(k): float(v) for k, v in enumerate(rng.integers(0, 6, 12))} for _ in range(2))
    place = {name: (quality[name], cost[name]) for name in quality}
    beaten = {a for a, b in permutations(quality, 2)
              if quality[b] >= quality[a] and cost[b] <= cost[a] and place[a] != place[b]}  # fmt: skip
    actual = pareto_front(quality, cost)
    assert {place[name] for name in actual} == {place[name] for name in set(quality) - beaten}
    assert [cost[n] for n in actual] == sorted(cost[n] for n in actual)
