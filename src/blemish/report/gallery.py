"""The images that matter most in an evaluation, and each as a card: with its annotation and its result."""

import base64
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import cv2
import numpy as np
from numpy.typing import NDArray

from blemish.arrays import Picture
from blemish.dataset.ground_truth import has_mask, read_defect_mask
from blemish.dataset.sample import GOOD, Sample
from blemish.errors import BlemishError
from blemish.imaging.read import read_image
from blemish.inspection.manifest import Decision
from blemish.inspection.result import Inspection, Measurements, Verdict
from blemish.report.formatting import reason_text
from blemish.report.measurement_text import format_measurement
from blemish.report.overlay import as_picture, choose_zoom, draw_boxes, draw_outline, draw_overlay, enlarge, heat_range
from blemish.translation import ENGLISH, translator

if TYPE_CHECKING:  # evaluation and report are rooms of one floor
    from blemish.evaluation.evaluate import EvaluatedImage

SIDE = 480  # of a picture on the page, in px
MAX_REGIONS = 4  # listed on a card

InspectedSample = tuple[Sample, Inspection]

# Titles and notes of the groups.
GROUPS = {
    "Missed": "Defective parts that passed, lowest score first.",
    "False alarms": "Good parts that were rejected, highest score first.",
    "Up for review": "Parts that a person has to review.",
    "Nearly missed": "No defect passed. These were the nearest to it.",
    "Nearly a false alarm": "No good part was rejected. These were the nearest to it.",
    "Typical": "The image of middle score of each class.",
    "Top mistakes": "Images predicted as another class, the surest first.",
    "Missed defects": "Images with a defect that no region detects, the largest such defect first.",
    "False regions": "Defective parts with a region on none of their defects, the highest score first.",
}


@dataclass(slots=True)
class ImageGroup:
    """Images of one kind, the most important first."""

    title: str
    samples: list[Sample]
    total: int
    cards: list["ImageCard"] = field(default_factory=list)

    @property
    def note(self) -> str:
        return GROUPS[self.title]


@dataclass(frozen=True, slots=True)
class ImageCard:
    name: str
    annotated: str  # annotated class
    verdict: str
    label: str
    score: float
    reasons: list[str]
    regions: list[dict[str, str]]
    more: int  # regions that are not listed
    image: str  # data URI; with the annotation
    overlay: str


def select_images(inspections: Sequence[InspectedSample], limit: int = 6) -> list[ImageGroup]:
    """Worst misses, false alarms, reviews, the nearest to both, and one typical image of each class."""
    by_score = sorted(inspections, key=lambda pair: pair[1].score)
    defective = [pair for pair in by_score if pair[0].defective]
    good = [pair for pair in reversed(by_score) if pair[0].defective is False]
    missed = [sample for sample, own in defective if own.verdict == Verdict.PASS]
    alarms = [sample for sample, own in good if own.verdict == Verdict.REJECT]
    stopped = [pair for pair in defective if pair[1].verdict != Verdict.PASS]
    return _groups(limit, {
        "Missed": missed,
        "False alarms": alarms,
        "Up for review": [sample for sample, own in [*defective, *good] if own.verdict == Verdict.REVIEW],
        "Nearly missed": [] if missed else [sample for sample, _ in defective[: limit // 2]],
        "Nearly a false alarm": [] if alarms else [sample for sample, _ in good[: limit // 2]],
        "Typical": _typical(stopped) + _typical(good),
    })  # fmt: skip


def select_errors(images: Sequence["EvaluatedImage"], limit: int = 6) -> list[ImageGroup]:
    """Images predicted as a wrong class, with missed defects, and with regions on none of their defects."""
    wrong = [(i.predicted[1], i) for i in images if i.predicted and i.sample.label not in (None, i.predicted[0])]
    missed = [(_largest_missed(i), i) for i in images]
    false = [(max(i.matches.false_scores), i) for i in images if i.sample.defective and i.matches
             and i.matches.false_scores]  # fmt: skip
    ranked = {"Top mistakes": wrong, "Missed defects": [pair for pair in missed if pair[0]], "False regions": false}
    ordered = {title: sorted(pairs, key=lambda pair: -pair[0]) for title, pairs in ranked.items()}
    return _groups(limit, {title: [image.sample for _, image in pairs] for title, pairs in ordered.items()})


def make_card(sample: Sample, inspection: Inspection, decision: Decision, language: str = ENGLISH) -> ImageCard:
    """Draw one inspected sample. Raises ImageError where the image cannot be read."""
    image, t = read_image(sample.image), translator(language)
    regions = sorted(inspection.regions, key=lambda region: -region.score)
    return ImageCard(
        name="/".join(sample.image.parts[-3:]),
        annotated=sample.label or {True: "defective", False: GOOD, None: "unknown"}[sample.defective],
        verdict=str(inspection.verdict),
        label=inspection.label,
        score=inspection.score,
        reasons=[reason_text(reason, t) for reason in inspection.reasons],
        regions=[
            {"label": region.label, "score": f"{region.score:.4g}", **_sizes(region.measurements)}
            for region in regions[:MAX_REGIONS]
        ],
        more=max(0, len(regions) - MAX_REGIONS),
        image=data_uri(_draw_annotation(image, sample)),
        overlay=data_uri(draw_overlay(image, inspection, heat_range(decision), language)),
    )


def data_uri(picture: Picture, side: int = SIDE) -> str:
    """A picture as JPEG in a data URI, its longer side at most `side`."""
    height, width = picture.shape[:2]
    scale = side / max(height, width)
    if scale < 1:
        size = max(1, round(width * scale)), max(1, round(height * scale))
        picture = np.asarray(cv2.resize(picture, size, interpolation=cv2.INTER_AREA), np.uint8)
    _, data = cv2.imencode(".jpg", picture[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, 82])
    return "data:image/jpeg;base64," + base64.b64encode(data.tobytes()).decode()


def _groups(limit: int, samples: dict[str, list[Sample]]) -> list[ImageGroup]:
    return [ImageGroup(title, own[:limit], len(own)) for title, own in samples.items() if own]


def _largest_missed(image: "EvaluatedImage") -> float:
    """Side in px of the largest defect that is not detected, 0 where all are."""
    if image.matches is None:
        return 0.0
    pairs = zip(image.matches.sides, image.matches.detected, strict=True)
    return max((side for side, detected in pairs if not detected), default=0.0)


def _typical(pairs: Sequence[InspectedSample]) -> list[Sample]:
    by_class: dict[str, list[Sample]] = {}
    for sample, _ in pairs:
        by_class.setdefault(sample.label or "", []).append(sample)
    return [samples[len(samples) // 2] for _, samples in sorted(by_class.items())]


def _draw_annotation(image: NDArray[Any], sample: Sample) -> Picture:
    picture = as_picture(image).copy()
    zoom = choose_zoom(picture)
    picture = enlarge(picture, zoom)
    for box in sample.boxes or ():
        x0, y0, x1, y1 = (round(zoom * edge) for edge in box.bounds)
        draw_boxes(picture, [(x0, y0, x1, y1)])
    if not sample.defective or not has_mask(sample):
        return picture
    try:
        mask = read_defect_mask(sample, (image.shape[0], image.shape[1]))
    except BlemishError:  # the evaluation has reported it
        return picture
    return draw_outline(picture, mask.repeat(zoom, axis=0).repeat(zoom, axis=1))


def _sizes(own: Measurements | None) -> dict[str, str]:
    """Length, width and area of a region with their uncertainties, in mm where the scale is known."""
    if own is None:
        return {}
    return {
        shown: format_measurement(own, name)
        for shown, name in (("length", "length"), ("width", "mean_width"), ("area", "area"))
    }
