"""Figures of resampled images against the plain figures of the images written out; ranking, choice and front."""

from dataclasses import replace
from itertools import permutations

import numpy as np
import pytest

from blemish.errors import DataError
from blemish.evaluation import resampled
from blemish.evaluation.boxes import box_figures
from blemish.evaluation.classes import class_figures
from blemish.evaluation.comparison import Cost, Standing, choose, common, figure_for, front, rank_methods
from blemish.evaluation.detections import Detections
from blemish.evaluation.image import auroc
from blemish.evaluation.paired import Difference, draw_sets
from blemish.evaluation.predictions import Judgement, judgement


def image(number, **known):
    empty = {"group": None, "truth": None, "defective": None, "score": 0.0, "predicted": None}
    pixels = {"both": None, "either": None, "boxes": None, "defects": None}
    return Judgement(**{"image": f"{number}.png", **empty, **pixels, **known})


def draws(count, seed=0):
    return draw_sets([0] * count, draws=25, seed=seed)


def parts(count=40, noise=1.0, seed=0):
    """Good and defective images in turn, with scores in two decimals, so that some are equal."""
    rng = np.random.default_rng(seed)
    scores = (np.arange(count) % 2 + noise * rng.normal(size=count)).round(2)
    return [image(k, defective=bool(k % 2), score=float(s)) for k, s in enumerate(scores)]


def test_auroc_of_drawn_images():
    images = parts()
    figure = resampled.auroc(images)
    for drawn in draws(len(images)):
        own = [images[k] for k in drawn]
        expected = auroc(np.array([i.score for i in own]), np.array([i.defective for i in own]))
        assert figure(drawn) == pytest.approx(expected)


def test_auroc_compares_images_of_one_fold():
    """The second fold's network has another scale; all its pairs are in order none the less."""
    images = [replace(i, score=1000 + i.score, fold=1) for i in parts(20, 0)] + parts(20, seed=3)
    pairs = [a.score < b.score or 0.5 * (a.score == b.score)
             for a in images for b in images if a.fold == b.fold and not a.defective and b.defective]  # fmt: skip
    assert resampled.auroc(images)(np.arange(40)) == pytest.approx(np.mean(pairs))
    assert resampled.auroc([i for i in images if i.defective]) is None


def test_macro_f1_of_drawn_images():
    rng = np.random.default_rng(1)
    names = [("pit", "scratch", "stain")[k] for k in rng.integers(0, 3, 60)]
    told = [n if r < 0.6 else "pit" for n, r in zip(names, rng.random(60), strict=True)]
    images = [image(k, truth=t, predicted=p) for k, (t, p) in enumerate(zip(names, told, strict=True))]
    for drawn in draws(60):
        expected = class_figures([names[k] for k in drawn], [told[k] for k in drawn]).macro_f1
        assert resampled.macro_f1(images)(drawn) == pytest.approx(expected)


def test_map50_of_drawn_images():
    rng = np.random.default_rng(2)
    seen = []
    for _ in range(15):
        truth = [("pit", "dent")[k] for k in rng.integers(0, 2, rng.integers(0, 4))]
        labels = [("pit", "dent", "never")[k] for k in rng.integers(0, 3, rng.integers(0, 6))]
        seen.append(Detections(rng.random(len(labels)), labels, truth, rng.random((len(labels), len(truth)))))
    images = [judgement(_seen(k, found)) for k, found in enumerate(seen)]
    assert [Judgement.of(i.as_dict()) for i in images] == images
    for drawn in draws(15):
        assert resampled.map50(images)(drawn) == pytest.approx(box_figures([seen[k] for k in drawn]).map50)


def _seen(number, detections):
    from blemish.dataset.sample import Sample
    from blemish.evaluation.evaluate import Seen
    from blemish.inspection.result import Verdict

    return Seen(Sample(f"{number}.png"), Verdict.PASS, 0.0, None, None, None, None, detections)


def test_iou_of_drawn_images():
    images = [image(0, both=3, either=6), image(1, both=0, either=2), image(2, both=0, either=0)]
    assert resampled.iou(images)(np.array([0, 0, 1, 2])) == pytest.approx(6 / 14)
    assert np.isnan(resampled.iou(images)(np.array([2, 2, 2])))
    assert resampled.iou([image(0)]) is None


def test_methods_rank_by_the_figure_that_most_have():
    judged = {"a": parts(seed=1), "b": parts(noise=0.1), "c": [image(0, both=1, either=2)]}
    assert figure_for(judged) == "auroc"
    standings = rank_methods(judged, "auroc")
    assert [s.method for s in standings] == ["b", "a"]
    assert standings[0].difference is None
    assert standings[1].behind
    assert standings[1].difference.value == pytest.approx(standings[1].value - standings[0].value)
    assert standings[1].low < standings[1].value < standings[1].high
    with pytest.raises(DataError, match="no method has the figure mAP50"):
        figure_for(judged, "map50")
    with pytest.raises(DataError, match="nothing to compare by"):
        figure_for({"a": [image(0)]})


def test_only_images_that_all_have_judged_are_compared():
    a, b = parts(10), parts(10)[::-1][2:]
    assert [i.image for i in common({"a": a, "b": b})["a"]] == [i.image for i in common({"a": a, "b": b})["b"]]
    assert len(common({"a": a, "b": b})["a"]) == 8


def standing(method, value, low=None, high=None):
    difference = None if low is None else Difference(-0.01, low, high, 0.4, 100)
    return Standing(method, value, value - 0.02, value + 0.02, difference)


BEST, SMALL = standing("best", 0.9), standing("small", 0.89, -0.03, 0.01)
CASES = {
    "clearly better": ([BEST, standing("fast", 0.8, -0.2, -0.01)], "best", "no interval"),
    "not told apart": ([BEST, standing("fast", 0.89, -0.03, 0.01)], "fast", "includes zero. fast is faster"),
    "no cheaper": ([standing("fast", 0.9), standing("best", 0.89, -0.03, 0.01)], "fast", "cannot be told apart"),
    "as fast, smaller": ([BEST, SMALL], "small", "smaller (3 against 50 MB)"),
    "as fast and small": ([BEST, standing("like", 0.89, -0.03, 0.01)], "best", "cannot be told apart"),
    "far below": (
        [BEST, standing("fast", 0.87, -0.12, 0.04)],
        "best",
        "fast apart from it, but it is more than 0.02 below",
    ),
    "just within": ([BEST, standing("fast", 0.88, -0.12, 0.04)], "fast", "the two lie within 0.02"),
    "one of two": ([BEST, SMALL, standing("fast", 0.5, -0.9, 0.1)], "small", "smaller (3 against 50 MB)"),
    "the same": (
        [BEST, standing("fast", 0.9, 0.0, 0.0)],
        "fast",
        "best and fast have the same image AUROC, 0.900. fast is faster",
    ),
    "alone": ([BEST], "best", "the only method"),
}


@pytest.mark.parametrize("case", CASES)
def test_of_methods_that_are_not_told_apart_the_faster_is_taken(case):
    standings, method, words = CASES[case]
    costs = {"best": Cost(100, 50), "fast": Cost(20, 80), "small": Cost(105, 3), "like": Cost(98, 49)}
    choice = choose(standings, costs, "auroc")
    assert choice.method == method
    assert words in choice.reason


def test_the_front_is_what_no_other_beats():
    rng = np.random.default_rng(0)
    quality, cost = ({str(k): float(v) for k, v in enumerate(rng.integers(0, 6, 12))} for _ in range(2))
    place = {name: (quality[name], cost[name]) for name in quality}
    beaten = {a for a, b in permutations(quality, 2)
              if quality[b] >= quality[a] and cost[b] <= cost[a] and place[a] != place[b]}  # fmt: skip
    found = front(quality, cost)
    assert {place[name] for name in found} == {place[name] for name in set(quality) - beaten}
    assert [cost[n] for n in found] == sorted(cost[n] for n in found)
