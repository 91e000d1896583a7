"""What one way of looking made of one image, beside the truth: all that the figures to compare by need, and little."""

from collections import Counter
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from blemish.evaluation.detections import Detections, rank
from blemish.evaluation.evaluate import Seen

SAME_DEFECT = np.array([0.5])  # intersection over union from which on a box has found a defect


@dataclass(frozen=True, slots=True)
class Judgement:
    """None where the truth is not known or the bundle does not tell."""

    image: str
    group: str | None
    truth: str | None  # class
    defective: bool | None
    score: float
    predicted: str | None  # the likeliest class
    both: int | None  # pixels that are defective in truth and regions
    either: int | None
    boxes: list[tuple[str, float, bool]] | None  # class, score, whether it found a defect
    defects: dict[str, int] | None  # boxes of the truth by class
    fold: int = 0  # images of one fold were judged by one and the same bundle

    def as_dict(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def of(cls, kept: dict[str, Any]) -> "Judgement":
        """From what `as_dict` gave, by way of JSON perhaps."""
        boxes = kept["boxes"]
        return cls(**{**kept, "boxes": None if boxes is None else [(str(a), float(b), bool(c)) for a, b, c in boxes]})


def judgement(seen: Seen, fold: int = 0, shapes: bool = True) -> Judgement:
    """The gist of what an evaluation saw; without `shapes`, regions tell nothing of defective pixels."""
    sample = seen.sample
    return Judgement(
        image=str(sample.image),
        group=sample.group,
        truth=sample.label,
        defective=sample.defective,
        score=float(seen.score),
        predicted=seen.predicted[0] if seen.predicted is not None else None,
        both=seen.overlap.both if seen.overlap is not None and shapes else None,
        either=seen.overlap.either if seen.overlap is not None and shapes else None,
        boxes=None if seen.boxes is None else _matched(seen.boxes),
        defects=None if seen.boxes is None else dict(Counter(seen.boxes.truth)),
        fold=fold,
    )


def _matched(found: Detections) -> list[tuple[str, float, bool]]:
    boxes = []
    for label in sorted(set(found.labels)):
        ranked = rank([found], label, SAME_DEFECT)
        boxes += [(label, float(s), bool(h)) for s, h in zip(ranked.scores, ranked.hits[0], strict=True)]
    return boxes
