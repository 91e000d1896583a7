"""Metrics of resampled images against the plain metrics of the images written out; ranking, choice, Pareto front."""

from dataclasses import replace
from itertools import permutations

import numpy as np
import pytest

from blemish.errors import DataError
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
