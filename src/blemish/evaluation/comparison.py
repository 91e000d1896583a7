"""Several methods on the same images: which metric compares them, their ranking, and which method to choose."""

from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeVar

import numpy as np

from blemish.errors import DataError
from blemish.evaluation import bootstrap
from blemish.evaluation.bootstrap import (
    Difference,
    Statistic,
    draw_resamples,
    expanded_confidence,
    mean_statistic,
    paired_difference,
    units_by_stratum,
)
from blemish.evaluation.intervals import MIN_UNITS
from blemish.evaluation.predictions import Prediction
from blemish.evaluation.ranking import is_ranked
from blemish.translation import Message

Key = TypeVar("Key", bound=Hashable)
# By preference, where all methods have it: whether a part is good matters most, and every method ranks parts.
METRICS: dict[str, Callable[[Sequence[Prediction]], Statistic | None]] = {
    "auroc": bootstrap.auroc_statistic,
    "macro-f1": bootstrap.macro_f1_statistic,
    "map50": bootstrap.map50_statistic,
    "iou": bootstrap.iou_statistic,
}
METRIC_NAMES = {"auroc": "image AUROC", "macro-f1": "macro F1", "map50": "mAP50", "iou": "IoU of regions"}
# How far a method may be below the best and still be chosen for its speed. A difference that is not significant is not
# enough: with few images no difference is.
MARGIN = 0.02
SIMILAR = 1.2  # times the lowest latency, or size, up to which methods count as equally fast, or small


@dataclass(frozen=True)
class RankedMethod:
    """A method's metric with its interval, and its difference to the best (None for the best itself).

    Without an interval `notes` say why.
    """

    method: str
    value: float
    low: float | None
    high: float | None
    difference: Difference | None
    notes: tuple[Message, ...] = ()

    @property
    def significantly_worse(self) -> bool:
        """Whether its difference to the best is significant."""
        return self.difference is not None and self.difference.significant


@dataclass(frozen=True)
class MethodCost:
    """Cost of a method where it runs; latency is the median of single images, file to verdict."""

    latency_ms: float
    size_mb: float


@dataclass(frozen=True)
class MethodChoice:
    method: str
    equals: tuple[str, ...]  # others within MARGIN of the best and not significantly worse, the best among them
    reasons: tuple[Message, ...]

    @property
    def reason(self) -> str:
        """The reasons in one English line."""
        return "; ".join(map(str, self.reasons))


def shared_images(predictions: Mapping[Key, list[Prediction]]) -> dict[Key, list[Prediction]]:
    """The images for which all methods have a prediction, in one order."""
    by_image = {name: {(i.fold, i.image): i for i in own} for name, own in predictions.items()}
    shared = sorted(set.intersection(*map(set, by_image.values()))) if by_image else []
    return {name: [own[key] for key in shared] for name, own in by_image.items()}


def select_metric(predictions: Mapping[str, list[Prediction]], requested: str | None = None) -> str:
    """Key of the metric to compare by: the requested one, or the first that most methods have.

    Raises DataError where no method has it.
    """
    counts = {key: sum(prepare(own) is not None for own in predictions.values()) for key, prepare in METRICS.items()}
    best = max(counts, key=lambda key: counts[key]) if requested is None else requested
    if not counts[best]:
        raise DataError(
            "nothing to compare by: the images have no annotation that the methods answer; it takes good and defective "
            "images, or labels, boxes or masks of defects"
            if requested is None
            else f"no method has the metric {METRIC_NAMES[best]} on these images; take another one"
        )
    return best


def rank_methods(predictions: Mapping[str, list[Prediction]], metric: str, seed: int = 0) -> list[RankedMethod]:
    """The methods that have the metric, the best first, by the paired bootstrap on the images that all share."""
    return rank_repeated({name: [images] for name, images in predictions.items()}, metric, seed)


def rank_repeated(
    predictions: Mapping[str, Sequence[list[Prediction]]], metric: str, seed: int = 0
) -> list[RankedMethod]:
    """As `rank_methods`, from the predictions of several trainings of each method: the mean of their metrics.

    Images are resampled, trainings are not, so that intervals say how far the images carry the result. They are drawn
    over all folds, by class: a class with fewer than MIN_UNITS independent images gives no interval.
    """
    prepare = METRICS[metric]
    runs = {
        (name, k): images
        for name, trained in predictions.items()
        for k, images in enumerate(trained)
        if prepare(images) is not None
    }
    shared = shared_images(runs)
    made: dict[str, list[Statistic]] = {}
    for (name, _), images in shared.items():
        statistic = prepare(images)
        if statistic is not None:
            made.setdefault(name, []).append(statistic)
    if not made:
        return []
    statistics = {name: mean_statistic(own) for name, own in made.items()}
    images = next(iter(shared.values()))
    strata: list[Hashable] = [i.true_label if metric == "macro-f1" else i.defective for i in images]
    groups = [i.group for i in images]
    sizes = {stratum: len(own) for stratum, own in units_by_stratum(strata, groups).items() if stratum is not None}
    few = [_explain_few(stratum, count) for stratum, count in sizes.items() if count < MIN_UNITS]
    resamples = [] if few else draw_resamples(strata, groups, seed=seed)
    confidence = expanded_confidence(max(MIN_UNITS, min(sizes.values(), default=MIN_UNITS)))
    everything = np.arange(len(images), dtype=np.int64)
    order = sorted(statistics, key=lambda name: -statistics[name](everything))
    ranking = []
    for name in order:
        alone = paired_difference(statistics[name], lambda _: 0.0, resamples, len(images), confidence)
        gap = None
        if name != order[0]:
            gap = paired_difference(statistics[name], statistics[order[0]], resamples, len(images), confidence)
        unscored = [_explain_unscored(name, own) for (method, _), own in shared.items() if method == name]
        notes = (*few, *(note for note in unscored if note is not None and metric == "auroc"))
        ranking.append(RankedMethod(name, alone.value, alone.low, alone.high, gap, notes))
    return ranking


def list_notes(ranking: Sequence[RankedMethod]) -> list[Message]:
    """The notes of all methods, each once."""
    notes = [note for ranked in ranking for note in ranked.notes]
    return [note for i, note in enumerate(notes) if note not in notes[:i]]


def _explain_few(stratum: Hashable, count: int) -> Message:
    texts = {
        False: "intervals, and whether a difference is significant, take {needed} good parts; there are {count}",
        True: "intervals, and whether a difference is significant, take {needed} defective parts; there are {count}",
    }
    values: dict[str, object] = {"needed": MIN_UNITS, "count": count}
    if isinstance(stratum, bool):
        return Message(texts[stratum], values)
    return Message(
        "intervals, and whether a difference is significant, take {needed} parts of each class; of {label} there are "
        "{count}",
        values | {"label": stratum},
    )


def _explain_unscored(method: str, images: Sequence[Prediction]) -> Message | None:
    scores = np.array([i.score for i in images if i.defective is not None], np.float64)
    count = int((~is_ranked(scores)).sum())
    if not count:
        return None
    return Message(
        "{method} gives no number as the score of {count} images; they count as ranked wrong",
        {"method": method, "count": count},
    )


def choose_method(ranking: Sequence[RankedMethod], costs: Mapping[str, MethodCost], metric: str) -> MethodChoice:
    """The best method, or the fastest of its equals: within MARGIN of it and not significantly worse.

    Of equally fast ones the smallest.
    """
    best = ranking[0]
    tied = [m for m in ranking if not m.significantly_worse and best.value - m.value <= MARGIN + 1e-9]
    fastest = min(costs[m.method].latency_ms for m in tied)
    fast = [m for m in tied if costs[m.method].latency_ms <= SIMILAR * fastest]
    smallest = min(costs[m.method].size_mb for m in fast)
    chosen = next(m for m in fast if costs[m.method].size_mb <= SIMILAR * smallest)  # the best of these
    if len(ranking) == 1:
        values = {"metric": METRIC_NAMES[metric], "value": f"{best.value:.3f}"}
        reasons = [Message("the only method that was compared; {metric} {value}", values)]
    elif chosen is best:
        reasons = _reasons_for_best(tied, ranking, METRIC_NAMES[metric])
    else:
        reasons = _reasons_for_equal(chosen, best, costs, METRIC_NAMES[metric])
    return MethodChoice(chosen.method, tuple(m.method for m in tied if m is not chosen), tuple(reasons))


def _reasons_for_equal(
    chosen: RankedMethod, best: RankedMethod, costs: Mapping[str, MethodCost], metric: str
) -> list[Message]:
    assert chosen.difference is not None
    values = {"best": best.method, "chosen": chosen.method, "metric": metric}
    values |= {"best_value": f"{best.value:.3f}", "value": f"{chosen.value:.3f}"}
    if values["best_value"] == values["value"]:
        equal = Message("{best} and {chosen} have the same {metric}, {value}", values)
    elif chosen.difference.low is None:
        equal = Message(
            "{best} has the highest {metric}, {best_value} against {value}, but the two are within {margin} and "
            "nothing is known of the interval of their difference",
            values | {"margin": f"{MARGIN:g}"},
        )
    else:
        values |= {
            "margin": f"{MARGIN:g}",
            "low": f"{chosen.difference.low:+.3f}",
            "high": f"{chosen.difference.high:+.3f}",
        }
        equal = Message(
            "{best} has the highest {metric}, {best_value} against {value}, but the two are within {margin} and the "
            "difference is not significant on these images: its 95 % interval, {low} to {high}, includes zero",
            values,
        )
    cost, other = costs[chosen.method], costs[best.method]
    if cost.latency_ms * SIMILAR < other.latency_ms:
        text = "{chosen} is faster ({cost} against {other} ms an image)"
        figures = cost.latency_ms, other.latency_ms
    else:
        text = "{chosen} is smaller ({cost} against {other} MB) and about as fast"
        figures = cost.size_mb, other.size_mb
    gain = {"chosen": chosen.method, "cost": f"{figures[0]:.3g}", "other": f"{figures[1]:.3g}"}
    return [equal, Message(text, gain)]


def _reasons_for_best(tied: Sequence[RankedMethod], ranking: Sequence[RankedMethod], metric: str) -> list[Message]:
    best = ranking[0]
    reasons = [Message("the highest {metric}, {value}", {"metric": metric, "value": f"{best.value:.3f}"})]
    equal = [m.method for m in tied if m is not best]
    if equal:
        reasons.append(
            Message(
                "no significant lead over {methods} on these images, but none of them is clearly faster or, at the "
                "same speed, smaller",
                {"methods": ", ".join(equal)},
            )
        )
    unsure = [m.method for m in ranking if not m.significantly_worse and m not in tied]
    if unsure:
        reasons.append(
            Message(
                "these images are too few to prove a lead over {methods}, but more than {margin} below the best is too "
                "much to be chosen for speed",
                {"methods": ", ".join(unsure), "margin": f"{MARGIN:g}"},
            )
        )
    return reasons if len(reasons) > 1 else [*reasons, Message("no interval of a difference to it includes zero")]


def pareto_front(quality: Mapping[str, float], cost: Mapping[str, float]) -> list[str]:
    """Names that no other beats or equals in quality at lower cost, or beats at equal cost; by rising cost."""
    front: list[str] = []
    for name in sorted(quality, key=lambda n: (cost[n], -quality[n])):
        if not front or quality[name] > quality[front[-1]]:
            front.append(name)
    return front
