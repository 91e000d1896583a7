"""Image quality over time: dark, bright, blurred or shifted images show a fault of camera, light or fixture."""

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import cv2
import numpy as np
from sqlalchemy import Select, select
from sqlalchemy.orm import Session

from blemish.arrays import GreyImage, Image
from blemish.files import atomic_path
from blemish.station.models import InspectionRow
from blemish.station.repository import is_production

SIDE = 128  # px of the images that positions are compared by
BASELINE, RECENT = 50, 5  # the first images of a recipe are the baseline; the newest are compared with it
MIN_BASELINE = 10
MIN_BRIGHTNESS, MAX_BRIGHTNESS, MIN_SHARPNESS = 0.7, 1.4, 0.5  # relative to the baseline
MAX_SHIFT = 0.03  # of the image's longer side
MIN_CONFIDENCE = 0.3  # of phase correlation; below it the surface has no feature that is the same on every part

AlarmKind = Literal["Dark images", "Bright images", "Blurred images", "Shifted images"]
Quality = dict[str, float]


@dataclass(frozen=True, slots=True)
class QualityAlarm:
    kind: AlarmKind
    value: float  # relative to the baseline; of a shift, a share of the image's longer side


def measure_quality(image: Image, reference: GreyImage | None = None) -> Quality:
    """Brightness (0 to 1), sharpness and, with a thumbnail of a reference image, the shift as a share of the longer
    side and its confidence.

    Sharpness is the standard deviation of the Laplacian divided by that of the image, so it does not change with light.
    """
    grey = _grey(image)
    spread = float(grey.std())
    sharpness = float(cv2.Laplacian(grey, cv2.CV_32F).std()) / spread if spread > 1e-4 else 0.0
    quality = {"brightness": float(grey.mean()), "sharpness": sharpness}
    if reference is not None:
        window = cv2.createHanningWindow((SIDE, SIDE), cv2.CV_32F)
        (x, y), confidence = cv2.phaseCorrelate(reference, _resize(grey), window)
        height, width = grey.shape
        shift = np.hypot(x * width, y * height) / SIDE / max(height, width)
        quality |= {"shift": float(shift), "confidence": float(confidence)}
    return quality


def make_thumbnail(image: Image) -> GreyImage:
    """The image (SIDE, SIDE) that the positions of others are compared with."""
    return _resize(_grey(image))


def _grey(image: Image) -> GreyImage:
    """(H, W, C) as (H, W) float32, full scale 1."""
    full = float(np.iinfo(image.dtype).max) if np.issubdtype(image.dtype, np.integer) else 1.0
    return np.asarray(image.mean(axis=2, dtype=np.float32) / full, np.float32)


def _resize(grey: GreyImage) -> GreyImage:
    return np.asarray(cv2.resize(grey, (SIDE, SIDE), interpolation=cv2.INTER_AREA), np.float32)


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
    return compare_quality(baseline, _medians(recent)) if baseline is not None and len(recent) == RECENT else []


def compare_quality(baseline: Quality, quality: Quality) -> list[QualityAlarm]:
    light, sharpness = (quality[name] / max(baseline[name], 1e-6) for name in ("brightness", "sharpness"))
    shift = quality["shift"] if quality.get("confidence", 0.0) >= MIN_CONFIDENCE else 0.0
    checks: list[tuple[bool, AlarmKind, float]] = [
        (light < MIN_BRIGHTNESS, "Dark images", light),
        (light > MAX_BRIGHTNESS, "Bright images", light),
        (sharpness < MIN_SHARPNESS, "Blurred images", sharpness),
        (shift > MAX_SHIFT, "Shifted images", shift),
    ]
    return [QualityAlarm(kind, value) for raised, kind, value in checks if raised]


def _medians(rows: list[Quality]) -> Quality:
    names = set(rows[0]).intersection(*rows)
    return {name: float(np.median([row[name] for row in rows])) for name in names}
