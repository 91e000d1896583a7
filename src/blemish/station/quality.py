"""Whether pictures are still taken as they were: dark, blurred and shifted ones are the camera's fault."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import cv2
import numpy as np
from numpy.typing import NDArray
from sqlalchemy import ColumnElement, select
from sqlalchemy.orm import Session

from blemish.station.models import InspectionRow

Grey = NDArray[np.float32]
SIDE = 128  # of the pictures that positions are compared by
BASE, RECENT = 50, 5  # the first parts of a recipe say what is usual; the newest are held against it
LEAST_BASE = 10
DARK, BRIGHT, BLURRED = 0.7, 1.4, 0.5  # of the usual
SHIFTED = 0.03  # of the picture's longer side
SURE = 0.3  # phase correlation below it tells of no position: the surface has no mark that every part bears

Kind = Literal["Dark pictures", "Bright pictures", "Blurred pictures", "Shifted pictures"]


@dataclass(frozen=True, slots=True)
class Alarm:
    kind: Kind
    text: str


def measure(image: NDArray[Any], reference: Grey | None = None) -> dict[str, float]:
    """Brightness (0 to 1), sharpness, and the way from a reference's `small` picture, in parts of the longer side.

    Sharpness is the standard deviation of the Laplacian by that of the picture: light does not change it.
    """
    grey = _grey(image)
    spread = float(grey.std())
    sharpness = float(cv2.Laplacian(grey, cv2.CV_32F).std()) / spread if spread > 1e-4 else 0.0
    found = {"brightness": float(grey.mean()), "sharpness": sharpness}
    if reference is not None:
        window = cv2.createHanningWindow((SIDE, SIDE), cv2.CV_32F)
        (x, y), sure = cv2.phaseCorrelate(reference, _small(grey), window)
        height, width = grey.shape
        longer = max(height, width)
        found |= {"shift": float(np.hypot(x * width, y * height) / SIDE / longer), "sure": float(sure)}
    return found


def small(image: NDArray[Any]) -> Grey:
    """The picture that others are compared with by position."""
    return _small(_grey(image))


def _grey(image: NDArray[Any]) -> Grey:
    """(H, W, C) as (H, W) float32, full scale 1."""
    full = float(np.iinfo(image.dtype).max) if np.issubdtype(image.dtype, np.integer) else 1.0
    return np.asarray(image.mean(axis=2, dtype=np.float32) / full, np.float32)


def _small(grey: Grey) -> Grey:
    return np.asarray(cv2.resize(grey, (SIDE, SIDE), interpolation=cv2.INTER_AREA), np.float32)


class References:
    """The first picture of each recipe, kept in the station's folder so that a restart changes nothing."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._known: dict[int, Grey] = {}

    def measure(self, image: NDArray[Any], recipe_id: int) -> dict[str, float]:
        reference = self._known.get(recipe_id)
        if reference is None:
            reference = self._known[recipe_id] = self._load_or_keep(image, recipe_id)
        return measure(image, reference)

    def _load_or_keep(self, image: NDArray[Any], recipe_id: int) -> Grey:
        path = self._folder / f"{recipe_id}.npy"
        try:
            found = np.load(path, allow_pickle=False)
            if found.shape == (SIDE, SIDE) and found.dtype == np.float32:
                return np.asarray(found)
        except (OSError, ValueError):
            pass
        made = small(image)
        self._folder.mkdir(parents=True, exist_ok=True)
        np.save(path, made)
        return made


def history(session: Session, recipe_id: int, station: str, limit: int = 500) -> list[tuple[int, dict[str, float]]]:
    """Ids and qualities of the newest measured pictures of a recipe, oldest first."""
    row = InspectionRow
    query = select(row.id, row.quality).where(*_measured(recipe_id, station))
    newest = session.execute(query.order_by(row.id.desc()).limit(limit)).all()
    return [(id_, quality) for id_, quality in reversed(newest) if quality]


def _measured(recipe_id: int, station: str) -> list[ColumnElement[bool]]:
    row = InspectionRow
    return [row.recipe_id == recipe_id, row.station == station, row.quality.is_not(None)]


def usual(session: Session, recipe_id: int, station: str) -> dict[str, float] | None:
    """Medians over the first pictures of a recipe, or None while they are too few."""
    row = InspectionRow
    query = select(row.quality).where(*_measured(recipe_id, station)).order_by(row.id).limit(BASE)
    first = [quality for quality in session.scalars(query) if quality]
    return _medians(first) if len(first) >= LEAST_BASE else None


def alarms(session: Session, recipe_id: int, station: str) -> list[Alarm]:
    """What is wrong with the newest pictures, by their medians, so that one odd picture alarms nobody."""
    base = usual(session, recipe_id, station)
    recent = [quality for _, quality in history(session, recipe_id, station, RECENT)]
    return compare(base, _medians(recent)) if base is not None and len(recent) == RECENT else []


def compare(base: dict[str, float], found: dict[str, float]) -> list[Alarm]:
    raised = []
    light, sharp = (
        found["brightness"] / max(base["brightness"], 1e-6),
        found["sharpness"] / max(base["sharpness"], 1e-6),
    )
    if light < DARK or light > BRIGHT:
        raised.append(Alarm("Dark pictures" if light < DARK else "Bright pictures", f"{light:.0%}"))
    if sharp < BLURRED:
        raised.append(Alarm("Blurred pictures", f"{sharp:.0%}"))
    if found.get("sure", 0.0) >= SURE and found["shift"] > SHIFTED:
        raised.append(Alarm("Shifted pictures", f"{found['shift']:.1%}"))
    return raised


def _medians(rows: list[dict[str, float]]) -> dict[str, float]:
    names = set(rows[0]).intersection(*rows)
    return {name: float(np.median([row[name] for row in rows])) for name in names}
