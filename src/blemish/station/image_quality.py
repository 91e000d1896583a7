"""Image quality over time: dark, bright, blurred or shifted images show a fault of camera, light or fixture."""

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
from sqlalchemy import Select, select
from sqlalchemy.orm import Session

from blemish.arrays import GreyImage, Image
from blemish.files import atomic_path
from blemish.imaging.quality import SIDE, Quality, make_thumbnail, measure_quality
from blemish.inspection.manifest import PictureLimits
from blemish.station.models import InspectionRow, RecipeRow
from blemish.station.repository import is_production

BASELINE, RECENT = 50, 5  # the first images of a recipe are the baseline; the newest are compared with it
MIN_BASELINE = 10
MIN_BRIGHTNESS, MAX_BRIGHTNESS, MIN_SHARPNESS = 0.7, 1.4, 0.5  # relative to the baseline
MAX_SHIFT = 0.03  # of the image's longer side
MIN_CONFIDENCE = 0.3  # of phase correlation; below it the surface has no feature that is the same on every part

AlarmKind = Literal["Dark images", "Bright images", "Blurred images", "Shifted images"]


@dataclass(frozen=True, slots=True)
class QualityAlarm:
    kind: AlarmKind
    value: float  # relative to the baseline; of a shift, a share of the image's longer side


class ReferenceImages:
    """Thumbnail of the first image of each recipe, stored in the station's folder so that a restart changes nothing."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._loaded: dict[int, GreyImage] = {}

    def measure(self, image: Image, recipe_id: int) -> Quality:
        if recipe_id not in self._loaded:
            self._loaded[recipe_id] = self._load_or_store(image, recipe_id)
        return measure_quality(image, self._loaded[recipe_id])

    def _load_or_store(self, image: Image, recipe_id: int) -> GreyImage:
        path = self._folder / f"{recipe_id}.npy"
        try:
            stored = np.load(path, allow_pickle=False)
            if stored.shape == (SIDE, SIDE) and stored.dtype == np.float32:
                return np.asarray(stored)
        except (OSError, ValueError):
            pass
        thumbnail = make_thumbnail(image)
        with atomic_path(path) as partial, partial.open("wb") as stream:
            np.save(stream, thumbnail)
        return thumbnail


def quality_history(session: Session, recipe_id: int, station: str, limit: int = 500) -> list[tuple[int, Quality]]:
    """Ids and qualities of the newest measured images of a recipe, oldest first."""
    newest = session.execute(_measured(recipe_id, station).order_by(InspectionRow.id.desc()).limit(limit)).all()
    return [(inspection_id, quality) for inspection_id, quality in reversed(newest) if quality]


def _measured(recipe_id: int, station: str) -> Select[int, Quality | None]:
    row = InspectionRow
    query = select(row.id, row.image_quality).where(row.recipe_id == recipe_id, row.station == station)
    return query.where(row.image_quality.is_not(None), is_production())


def quality_baseline(session: Session, recipe_id: int, station: str) -> Quality | None:
    """Medians over the first images of a recipe, or None while they are too few."""
    first = session.execute(_measured(recipe_id, station).order_by(InspectionRow.id).limit(BASELINE))
    measured = [quality for _, quality in first if quality]
    return _medians(measured) if len(measured) >= MIN_BASELINE else None


def find_alarms(session: Session, recipe_id: int, station: str) -> list[QualityAlarm]:
    """Faults of the newest images, by their medians, so that a single odd image raises no alarm."""
    baseline = quality_baseline(session, recipe_id, station)
    recent = [quality for _, quality in quality_history(session, recipe_id, station, RECENT)]
    if baseline is None or len(recent) < RECENT:
        return []
    limits = session.get_one(RecipeRow, recipe_id).bundle.manifest.get("picture_limits")
    return compare_quality(baseline, _medians(recent), PictureLimits.model_validate(limits or {}))


def compare_quality(baseline: Quality, quality: Quality, limits: PictureLimits | None = None) -> list[QualityAlarm]:
    """Alarms where the quality is beyond the usual limits, or beyond the bundle's own where these are narrower."""
    limits = limits or PictureLimits()
    light, sharpness = (quality[name] / max(baseline[name], 1e-6) for name in ("brightness", "sharpness"))
    shift = find_shift(baseline, quality) or 0.0
    checks: list[tuple[bool, AlarmKind, float]] = [
        (light < max(MIN_BRIGHTNESS, limits.min_brightness or 0), "Dark images", light),
        (light > min(MAX_BRIGHTNESS, limits.max_brightness or math.inf), "Bright images", light),
        (sharpness < max(MIN_SHARPNESS, limits.min_sharpness or 0), "Blurred images", sharpness),
        (shift > min(MAX_SHIFT, limits.max_shift or math.inf), "Shifted images", shift),
    ]
    return [QualityAlarm(kind, value) for raised, kind, value in checks if raised]


def find_shift(baseline: Quality, quality: Quality) -> float | None:
    """The shift against the baseline, not against the one reference image, which may be the one that lay askew.

    None where it cannot be measured. Qualities from before have no direction: there the distances are compared.
    """
    if quality.get("confidence", 0.0) < MIN_CONFIDENCE:
        return None
    if baseline.get("confidence", 0.0) < MIN_CONFIDENCE:
        return quality["shift"]
    if all(name in own for own in (baseline, quality) for name in ("shift_x", "shift_y")):
        return math.hypot(*(quality[name] - baseline[name] for name in ("shift_x", "shift_y")))
    return abs(quality["shift"] - baseline["shift"])


def _medians(rows: list[Quality]) -> Quality:
    names = set(rows[0]).intersection(*rows)
    return {name: float(np.median([row[name] for row in rows])) for name in names}
