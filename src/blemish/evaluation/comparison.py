"""Several methods on the same images: by which figure, how they rank, what tells them apart, and which one to take."""

from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from blemish.errors import DataError
from blemish.evaluation import resampled
from blemish.evaluation.paired import Difference, Statistic, draw_sets, paired_difference
from blemish.evaluation.predictions import Judgement

# By preference, where all methods have it: whether a part is good matters most, and every method ranks parts.
FIGURES: dict[str, Callable[[Sequence[Judgement]], Statistic | None]] = {
    "auroc": resampled.auroc,
    "macro-f1": resampled.macro_f1,
    "map50": resampled.map50,
    "iou": resampled.iou,
}
NAMES = {"auroc": "image AUROC", "macro-f1": "macro F1", "map50": "mAP50", "iou": "IoU of regions"}
# What a method may lie below the best and still be taken for its speed. That the images do not tell two apart is not
# enough: few images tell nothing apart.
MARGIN = 0.02
ALIKE = 1.2  # times the least latency, or size, up to which methods count as equally fast, or small


@dataclass(frozen=True)
class Standing:
    """A method's figure with its interval, and its difference to the best (None for the best itself)."""

    method: str
    value: float
    low: float
    high: float
    difference: Difference | None

    @property
    def behind(self) -> bool:
        """Whether it is told apart from the best."""
        return self.difference is not None and self.difference.told_apart


@dataclass(frozen=True)
class Cost:
    """What a method costs where it runs; latency is the median of single images, file to verdict."""

    latency_ms: float
    size_mb: float


@dataclass(frozen=True)
class Choice:
    method: str
    equals: tuple[str, ...]  # other methods within MARGIN of the best and not told apart from it, the best among them
    reason: str


def common(judged: Mapping[str, list[Judgement]]) -> dict[str, list[Judgement]]:
    """The images that all methods could judge, in one order."""
    sets = [{(i.fold, i.image) for i in own} for own in judged.values()]
    shared = sorted(set.intersection(*sets)) if sets else []
    places = {name: {(i.fold, i.image): i for i in own} for name, own in judged.items()}
    return {name: [own[key] for key in shared] for name, own in places.items()}


def figure_for(judged: Mapping[str, list[Judgement]], wanted: str | None = None) -> str:
    """The figure to compare by: the wanted one, or the first that most methods have.

    Raises DataError where no method has it.
    """
    having = {key: sum(make(own) is not None for own in judged.values()) for key, make in FIGURES.items()}
    best = max(having, key=lambda key: having[key]) if wanted is None else wanted
    if not having[best]:
        raise DataError(
            "nothing to compare by: the images hold no truth that the methods answer; it takes good and defective "
            "images, or labels, boxes or masks of defects"
            if wanted is None
            else f"no method has the figure {NAMES[best]} on these images; take another one"
        )
    return best


def rank_methods(judged: Mapping[str, list[Judgement]], figure: str, seed: int = 0) -> list[Standing]:
    """The methods that have the figure, the best first, by the paired bootstrap on images that all have judged."""
    own = common({name: images for name, images in judged.items() if FIGURES[figure](images) is not None})
    figures = {name: made for name, images in own.items() if (made := FIGURES[figure](images)) is not None}
    if not figures:
        return []
    images = next(iter(own.values()))
    count = len(images)
    strata: list[Hashable] = [(i.fold, i.truth if figure == "macro-f1" else i.defective) for i in images]
    sets = draw_sets(strata, [i.group for i in images], seed=seed)
    everything = np.arange(count, dtype=np.int64)
    order = sorted(figures, key=lambda name: -figures[name](everything))
    found = []
    for name in order:
        alone = paired_difference(figures[name], lambda _: 0.0, sets, count)
        other = None if name == order[0] else paired_difference(figures[name], figures[order[0]], sets, count)
        found.append(Standing(name, alone.value, alone.low, alone.high, other))
    return found


def choose(standings: Sequence[Standing], costs: Mapping[str, Cost], figure: str) -> Choice:
    """The best method, or the fastest of its equals: within MARGIN of it, and not told apart from it by the images.

    Of equally fast ones the smallest.
    """
    best = standings[0]
    tied = [s for s in standings if _equal(s, best)]
    least = min(costs[s.method].latency_ms for s in tied)
    fast = [s for s in tied if costs[s.method].latency_ms <= ALIKE * least]
    smallest = min(costs[s.method].size_mb for s in fast)
    taken = next(s for s in fast if costs[s.method].size_mb <= ALIKE * smallest)  # the best of these
    others = tuple(s.method for s in tied if s is not taken)
    return Choice(taken.method, others, _reason(taken, best, tied, standings, costs, NAMES[figure]))


def _equal(standing: Standing, best: Standing) -> bool:
    return not standing.behind and best.value - standing.value <= MARGIN + 1e-9


def _reason(
    taken: Standing,
    best: Standing,
    tied: Sequence[Standing],
    standings: Sequence[Standing],
    costs: Mapping[str, Cost],
    name: str,
) -> str:
    if len(standings) == 1:
        return f"the only method that was compared; {name} {best.value:.3f}"
    cost, other = costs[taken.method], costs[best.method]
    if taken is not best:
        assert taken.difference is not None
        faster = cost.latency_ms * ALIKE < other.latency_ms
        than = (
            f"faster ({cost.latency_ms:.3g} against {other.latency_ms:.3g} ms an image)"
            if faster
            else f"smaller ({cost.size_mb:.3g} against {other.size_mb:.3g} MB) and about as fast"
        )
        values = f"{best.value:.3f}", f"{taken.value:.3f}"
        if values[0] == values[1]:
            return f"{best.method} and {taken.method} have the same {name}, {values[0]}. {taken.method} is {than}"
        return (
            f"{best.method} has the highest {name}, {values[0]} against {values[1]}, but the two lie within "
            f"{MARGIN:g} and these images do not tell them apart: the 95 % interval of the difference, "
            f"{interval(taken.difference)}, includes zero. {taken.method} is {than}"
        )
    reasons = [f"the highest {name}, {best.value:.3f}"]
    equal = [s.method for s in tied if s is not best]
    if equal:
        reasons.append(
            f"{_listed(equal)} cannot be told apart from it on these images, but {_are(equal)} neither clearly faster "
            "nor, at the same speed, smaller"
        )
    unsure = [s.method for s in standings if not s.behind and s not in tied]
    if unsure:
        reasons.append(
            f"these images are too few to tell {_listed(unsure)} apart from it, but {_they_are(unsure)} more "
            f"than {MARGIN:g} below it and so not taken for {'its' if len(unsure) == 1 else 'their'} speed"
        )
    if len(reasons) == 1:
        reasons.append("no interval of a difference to it includes zero")
    return "; ".join(reasons)


def interval(difference: Difference) -> str:
    return f"{difference.low:+.3f} to {difference.high:+.3f}"


def front(quality: Mapping[str, float], cost: Mapping[str, float]) -> list[str]:
    """Names that no other beats or equals in quality at lower cost, or beats at equal cost; by rising cost."""
    found: list[str] = []
    for name in sorted(quality, key=lambda n: (cost[n], -quality[n])):
        if not found or quality[name] > quality[found[-1]]:
            found.append(name)
    return found


def _they_are(names: Sequence[str]) -> str:
    return f"{'it' if len(names) == 1 else 'they'} {_are(names)}"


def _are(names: Sequence[str]) -> str:
    return "is" if len(names) == 1 else "are"


def _listed(names: Sequence[str]) -> str:
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}"
