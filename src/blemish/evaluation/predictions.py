"""One bundle's result for one image with its annotation: all that metrics for comparing methods need, and small."""

from collections import Counter
from dataclasses import asdict, dataclass
from typing import Any

from blemish.evaluation.detections import IOU_50, Detections, rank_detections
from blemish.evaluation.evaluate import EvaluatedImage


@dataclass(frozen=True, slots=True)
class Prediction:
    """None where the image is not annotated for it or the bundle has no such output."""

    image: str
    group: str | None
    true_label: str | None
    defective: bool | None
    score: float
    label: str | None  # the likeliest class
    intersection: int | None  # pixels that are defective in annotation and regions
    union: int | None
    boxes: list[tuple[str, float, bool]] | None  # class, score, whether it matches a defect
    defects: dict[str, int] | None  # true boxes by class
    fold: int = 0  # images of one fold were inspected by the same bundle

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def from_dict(cls, data: dict[str, Any]) -> "Prediction":
        """The prediction of `to_dict`'s data, also after a round trip through JSON."""
        boxes = data["boxes"]
        return cls(**{**data, "boxes": None if boxes is None else [(str(a), float(b), bool(c)) for a, b, c in boxes]})


def make_prediction(image: EvaluatedImage, fold: int = 0, shapes: bool = True) -> Prediction:
    """Reduce an evaluated image; without `shapes`, regions say nothing about defective pixels."""
    sample = image.sample
    overlap = image.overlap.pixels if image.overlap is not None and shapes else None
    return Prediction(
        image=str(sample.image),
        group=sample.group if image.unit is None else image.unit,
        true_label=sample.label,
        defective=sample.defective,
        score=float(image.score),
        label=image.predicted[0] if image.predicted is not None else None,
        intersection=overlap.intersection if overlap is not None else None,
        union=overlap.union if overlap is not None else None,
        boxes=None if image.boxes is None else _matched(image.boxes),
        defects=None if image.boxes is None else dict(Counter(image.boxes.true_labels)),
        fold=fold,
    )


def _matched(detections: Detections) -> list[tuple[str, float, bool]]:
    ranked = {label: rank_detections([detections], label, IOU_50) for label in sorted(set(detections.labels))}
    return [
        (label, float(score), bool(hit))
        for label, own in ranked.items()
        for score, hit in zip(own.scores, own.hits[0], strict=True)
    ]
