"""The images worth looking at, and each as a card: the truth beside what was found."""

import base64
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import cv2
import numpy as np
from numpy.typing import NDArray

from blemish.dataset.ground_truth import has_mask, read_defect_mask
from blemish.dataset.sample import GOOD, Sample
from blemish.errors import BlemishError
from blemish.imaging.read import read_image
from blemish.inspection.manifest import Decision
from blemish.inspection.result import Inspection, Measurements, Verdict
from blemish.report.overlay import (
    TRUTH,
    Picture,
    as_picture,
    draw_overlay,
    enlarge,
    heat_range,
    line_width,
    outline,
    zoom_for,
)

if TYPE_CHECKING:  # the figures are made on a floor beside this one
    from blemish.evaluation.evaluate import Seen as Judged

SIDE = 480  # of a picture on the page, in px
REGIONS = 4  # listed on a card

Seen = tuple[Sample, Inspection]


@dataclass(slots=True)
class Group:
    """Images of one kind, the most telling first."""

    title: str
    note: str
    samples: list[Sample]
    total: int
    cards: list["Card"] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class Card:
    name: str
    truth: str
    verdict: str
    label: str
    score: float
    reasons: list[str]
    regions: list[dict[str, str]]
    more: int  # regions that are not listed
    image: str  # data URI; the truth is drawn in
    overlay: str


def choose(seen: Sequence[Seen], limit: int = 6) -> list[Group]:
    """Worst misses, false alarms, reviews, the nearest to both, and one typical image a class."""
    by_score = sorted(seen, key=lambda pair: pair[1].score)
    defective = [pair for pair in by_score if pair[0].defective]
    good = [pair for pair in reversed(by_score) if pair[0].defective is False]
    missed = [sample for sample, found in defective if found.verdict == Verdict.PASS]
    alarms = [sample for sample, found in good if found.verdict == Verdict.REJECT]
    unsure = [sample for sample, found in [*defective, *good] if found.verdict == Verdict.REVIEW]
    found_ones = [pair for pair in defective if pair[1].verdict != Verdict.PASS]
    groups = [
        ("Missed", "Defective parts that passed, lowest score first.", missed),
        ("False alarms", "Good parts that were rejected, highest score first.", alarms),
        ("Up for review", "Parts that a person has to judge.", unsure),
    ]
    if not missed:
        groups.append(
            (
                "Nearly missed",
                "No defect passed. These were the nearest to it.",
                [s for s, _ in defective[: limit // 2]],
            )
        )
    if not alarms:
        nearest = [sample for sample, _ in good[: limit // 2]]
        groups.append(("Nearly a false alarm", "No good part was rejected. These were the nearest to it.", nearest))
    groups.append(("Typical", "The image of middle score of each class.", _typical(found_ones) + _typical(good)))
    return [Group(title, note, samples[:limit], len(samples)) for title, note, samples in groups if samples]


def telling(judged: Sequence["Judged"], limit: int = 6) -> list[Group]:
    """Images called a class that they are not, with missed defects, with regions beside their defects."""
    wrong = [j for j in judged if j.predicted is not None and j.sample.label not in (None, j.predicted[0])]
    wrong.sort(key=lambda j: -(j.predicted or ("", 0.0))[1])
    missed = {i: _largest_missed(j) for i, j in enumerate(judged)}
    false = {i: max(j.outcome.false, default=None) for i, j in enumerate(judged) if j.outcome and j.sample.defective}
    by_miss = sorted((i for i in missed if missed[i]), key=lambda i: -missed[i])
    by_false = sorted((i for i, score in false.items() if score is not None), key=lambda i: -(false[i] or 0.0))
    groups = [
        ("Top mistakes", "Called another class than they are, the surest first.", [j.sample for j in wrong]),
        (
            "Missed defects",
            "Images with a defect that no region finds, the largest such defect first.",
            [judged[i].sample for i in by_miss],
        ),
        (
            "False regions",
            "Defective parts with a region beside their defects, the highest score first.",
            [judged[i].sample for i in by_false],
        ),
    ]
    return [Group(title, note, samples[:limit], len(samples)) for title, note, samples in groups if samples]


def _largest_missed(judged: "Judged") -> float:
    """Side in px of the largest defect that is not found, 0 where all are."""
    if judged.outcome is None:
        return 0.0
    pairs = zip(judged.outcome.sides, judged.outcome.found, strict=True)
    return max((side for side, found in pairs if not found), default=0.0)


def _typical(pairs: Sequence[Seen]) -> list[Sample]:
    by_class: dict[str, list[Sample]] = {}
    for sample, _ in pairs:
        by_class.setdefault(sample.label or "", []).append(sample)
    return [samples[len(samples) // 2] for _, samples in sorted(by_class.items())]


def make_card(sample: Sample, found: Inspection, decision: Decision) -> Card:
    """Draw one inspected sample. Raises ImageError where the image cannot be read."""
    image = read_image(sample.image)
    regions = sorted(found.regions, key=lambda region: -region.score)
    return Card(
        name="/".join(sample.image.parts[-3:]),
        truth=sample.label or {True: "defective", False: GOOD, None: "unknown"}[sample.defective],
        verdict=str(found.verdict),
        label=found.label,
        score=found.score,
        reasons=[*map(str, found.reasons)],
        regions=[{"label": r.label, "score": f"{r.score:.4g}", **_size(r.measurements)} for r in regions[:REGIONS]],
        more=max(0, len(regions) - REGIONS),
        image=data_uri(_with_truth(image, sample)),
        overlay=data_uri(draw_overlay(image, found, heat_range(decision))),
    )


def data_uri(picture: Picture, side: int = SIDE) -> str:
    """A picture as JPEG in a data URI, its longer side at most `side`."""
    height, width = picture.shape[:2]
    share = side / max(height, width)
    if share < 1:
        size = max(1, round(width * share)), max(1, round(height * share))
        picture = np.asarray(cv2.resize(picture, size, interpolation=cv2.INTER_AREA), np.uint8)
    _, data = cv2.imencode(".jpg", picture[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, 82])
    return "data:image/jpeg;base64," + base64.b64encode(data.tobytes()).decode()


def _with_truth(image: NDArray[Any], sample: Sample) -> Picture:
    picture = as_picture(image).copy()
    zoom = zoom_for(picture)
    picture = enlarge(picture, zoom)
    for box in sample.boxes or ():
        corners = [round(zoom * edge) for edge in (box.x0, box.y0, box.x1, box.y1)]
        cv2.rectangle(picture, (corners[0], corners[1]), (corners[2] - 1, corners[3] - 1), TRUTH, line_width(picture))
    if not sample.defective or not has_mask(sample):
        return picture
    try:
        mask = read_defect_mask(sample, (image.shape[0], image.shape[1]))
    except BlemishError:  # evaluation has told of it
        return picture
    return outline(picture, mask.repeat(zoom, axis=0).repeat(zoom, axis=1))


def _size(found: Measurements | None) -> dict[str, str]:
    """What a card says of a region's size."""
    if found is None:
        return {}
    if found.length_mm is None or found.mean_width_mm is None or found.area_mm2 is None:
        return {
            "length": f"{found.length_px:.0f} px",
            "width": f"{found.mean_width_px:.1f} px",
            "area": f"{found.area_px:.0f} px²",
        }
    return {
        "length": f"{found.length_mm:.2f} mm",
        "width": f"{found.mean_width_mm:.2f} mm",
        "area": f"{found.area_mm2:.3g} mm²",
    }
