"""A recorded inspection done again, and compared with what was answered then."""

import hashlib
import math
import re
from dataclasses import asdict, dataclass
from pathlib import Path

from blemish.errors import BlemishError, DataError, ImageError
from blemish.imaging.read import MAX_PIXELS
from blemish.inspection.inspector import Inspector
from blemish.inspection.result import Inspection, Measurements, Region
from blemish.station.image_store import check_pixels
from blemish.station.models import InspectionRow
from blemish.station.repository import as_inspection

SCORE_TOLERANCE = 1e-4  # of the score: engines round differently with other batches and processors
BOX_TOLERANCE_PX = 2
MEASURE_TOLERANCE = 0.05  # of a measure: a pixel at the edge may fall to either side
MASK_TOLERANCE = 0.9  # intersection over union


@dataclass(frozen=True, slots=True)
class Replay:
    inspection: Inspection | None  # None: the image cannot be inspected
    differences: list[str]  # none: the answer is the same

    @property
    def same(self) -> bool:
        return not self.differences


def replay(row: InspectionRow, inspector: Inspector, image: Path, max_pixels: int = MAX_PIXELS) -> Replay:
    """Inspect the image of a record again; raises DataError where it is not the same image.

    An image that could not be inspected has the same answer, to review it, where it cannot be inspected again.
    """
    with image.open("rb") as stream:
        if hashlib.file_digest(stream, "sha256").hexdigest() != row.image_sha256:
            raise DataError(f"{image} is not the image of inspection {row.id}: its hash is another")
    before = as_inspection(row)
    try:
        check_pixels(image, max_pixels)
        again = inspector.inspect(image)
    except BlemishError as error:
        if not (row.error or isinstance(error, ImageError)):
            raise
        return Replay(None, [] if row.error else [f"the image could be inspected, and cannot be now: {error}"])
    if row.error:
        valid = math.isfinite(again.score)
        return Replay(again, [f"there was no valid answer ({row.error}), and there is one now"] if valid else [])
    return Replay(again, differences(before, again))


def differences(before: Inspection, after: Inspection) -> list[str]:
    """In what two inspections of one image differ, a line each."""
    found = [
        f"{name} was {old}, is {new}"
        for name, old, new in (("verdict", before.verdict, after.verdict), ("label", before.label, after.label))
        if old != new
    ]
    if not _close(before.score, after.score):
        found.append(f"score was {before.score:.6g}, is {after.score:.6g}")
    old_scores, new_scores = before.class_scores or {}, after.class_scores or {}
    for name in sorted({*old_scores, *new_scores}):
        if not _near(old_scores.get(name, math.nan), new_scores.get(name, math.nan), SCORE_TOLERANCE):
            found.append(f"probability of {name} was {old_scores.get(name)}, is {new_scores.get(name)}")
    if [*map(_without_numbers, before.reasons)] != [*map(_without_numbers, after.reasons)]:
        found.append(f"reasons were {'; '.join(before.reasons)}, are {'; '.join(after.reasons)}")
    if len(before.regions) != len(after.regions):
        found.append(f"there were {len(before.regions)} regions, there are {len(after.regions)}")
        return found
    for old, new in zip(_sorted(before.regions), _sorted(after.regions), strict=True):
        if _moved(old, new):
            found.append(f"region {old.label} {old.box} is {new.label} {new.box}")
        else:
            found += [f"region {old.label} {old.box}: {difference}" for difference in _altered(old, new)]
    return found


def _close(a: float, b: float) -> bool:
    return _near(a, b, SCORE_TOLERANCE * max(abs(a), abs(b)))


def _near(a: float, b: float, tolerance: float) -> bool:
    return a == b or (a != a and b != b) or abs(a - b) <= tolerance


def _without_numbers(reason: str) -> str:
    """Measured values may differ in their last digit."""
    return re.sub(r"\d+(\.\d+)?", "#", reason)


def _altered(old: Region, new: Region) -> list[str]:
    """What is measured, and which pixels, of two regions at the same place."""
    found = []
    before, after = (_measures(region.measurements) for region in (old, new))
    for name in sorted({*before, *after}):
        was, now = before.get(name), after.get(name)
        if was is None or now is None:
            if was is not now:
                found.append(f"{name} was {was}, is {now}")
        elif not _near(was, now, MEASURE_TOLERANCE * max(1.0, abs(was), abs(now))) and "orientation" not in name:
            found.append(f"{name} was {was:.6g}, is {now:.6g}")
    if (old.mask is None) != (new.mask is None):
        found.append("it had a mask, and has none" if new.mask is None else "it had no mask, and has one")
    elif old.mask is not None and new.mask is not None and old.box == new.box:
        shared, joined = int((old.mask & new.mask).sum()), int((old.mask | new.mask).sum())
        if shared < MASK_TOLERANCE * joined:
            found.append(f"its mask shares {shared} of {joined} pixels with the one before")
    return found


def _measures(measured: Measurements | None) -> dict[str, float | None]:
    return {} if measured is None else asdict(measured)


def _sorted(regions: list[Region]) -> list[Region]:
    return sorted(regions, key=lambda region: (region.label, region.box))


def _moved(old: Region, new: Region) -> bool:
    far = max(abs(a - b) for a, b in zip(old.box, new.box, strict=True)) > BOX_TOLERANCE_PX
    return old.label != new.label or far or not _close(old.score, new.score)
