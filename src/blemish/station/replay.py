"""A recorded inspection repeated, and compared with the recorded result."""

import math
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from blemish.errors import BlemishError, DataError, ImageError
from blemish.files import file_sha256
from blemish.imaging.read import MAX_PIXELS
from blemish.inspection.result import Inspection, Measurements, Reason, Region
from blemish.station.image_store import check_pixels
from blemish.station.models import InspectionRow
from blemish.station.recipe_views import PartInspector
from blemish.station.repository import to_inspection

SCORE_TOLERANCE = 1e-4  # relative: engines round differently with other batches and processors
BOX_TOLERANCE_PX = 2
MEASURE_TOLERANCE = 0.05  # relative: a pixel at the edge may belong to either side
MIN_MASK_IOU = 0.9


@dataclass(frozen=True, slots=True)
class ReplayResult:
    inspection: Inspection | None  # None: the image cannot be inspected
    differences: list[str]  # empty: the result is the same

    @property
    def same(self) -> bool:
        return not self.differences


def replay(row: InspectionRow, inspector: PartInspector, image: Path, max_pixels: int = MAX_PIXELS) -> ReplayResult:
    """Inspect the image of a record again; raises DataError where it is not the same image.

    An image that could not be inspected has the same result where it cannot be inspected again.
    """
    if file_sha256(image) != row.image_sha256:
        raise DataError(f"{image} is not the image of inspection {row.id}: its hash differs")
    before = to_inspection(row)
    try:
        check_pixels(image, max_pixels)
        again = inspector.inspect(image)
    except BlemishError as error:
        if not (row.error or isinstance(error, ImageError)):
            raise
        return ReplayResult(None, [] if row.error else [f"the image could be inspected, and cannot be now: {error}"])
    if row.error:
        valid = math.isfinite(again.score)
        return ReplayResult(again, [f"there was no valid result ({row.error}), and there is one now"] if valid else [])
    return ReplayResult(again, find_differences(before, again))


def find_differences(before: Inspection, after: Inspection) -> list[str]:
    """The differences between two inspections of one image, a line each."""
    changes = [
        f"{name} was {old}, is {new}"
        for name, old, new in (("verdict", before.verdict, after.verdict), ("label", before.label, after.label))
        if old != new
    ]
    if not _close(before.score, after.score):
        changes.append(f"score was {before.score:.6g}, is {after.score:.6g}")
    old_scores, new_scores = before.class_scores or {}, after.class_scores or {}
    for name in sorted({*old_scores, *new_scores}):
        if not _near(old_scores.get(name, math.nan), new_scores.get(name, math.nan), SCORE_TOLERANCE):
            changes.append(f"probability of {name} was {old_scores.get(name)}, is {new_scores.get(name)}")
    if not _same_reasons(before.reasons, after.reasons):
        changes.append(f"reasons were {'; '.join(map(str, before.reasons))}, are {'; '.join(map(str, after.reasons))}")
    if len(before.regions) != len(after.regions):
        return [*changes, f"there were {len(before.regions)} regions, there are {len(after.regions)}"]
    for old, new in zip(_sorted(before.regions), _sorted(after.regions), strict=True):
        if _moved(old, new):
            changes.append(f"region {old.label} {old.box} is {new.label} {new.box}")
        else:
            changes += [f"region {old.label} {old.box}: {change}" for change in _region_changes(old, new)]
    return changes


def _close(a: float, b: float) -> bool:
    return _near(a, b, SCORE_TOLERANCE * max(abs(a), abs(b)))


def _near(a: float, b: float, tolerance: float) -> bool:
    return a == b or (a != a and b != b) or abs(a - b) <= tolerance


def _same_reasons(before: list[Reason], after: list[Reason]) -> bool:
    """Whether both have the same reasons; their values may differ like scores."""
    return len(before) == len(after) and all(
        replace(old, value=new.value) == new and _close(_or_nan(old.value), _or_nan(new.value))
        for old, new in zip(before, after, strict=True)
    )


def _or_nan(value: float | None) -> float:
    return math.nan if value is None else value


def _region_changes(old: Region, new: Region) -> list[str]:
    """Differences in measurements and pixels of two regions at the same position."""
    changes = []
    before, after = _measures(old.measurements), _measures(new.measurements)
    for name in sorted({*before, *after}):
        was, now = before.get(name), after.get(name)
        if was is None or now is None:
            if was is not now:
                changes.append(f"{name} was {was}, is {now}")
        elif not _near(was, now, MEASURE_TOLERANCE * max(1.0, abs(was), abs(now))) and "orientation" not in name:
            changes.append(f"{name} was {was:.6g}, is {now:.6g}")
    if (old.mask is None) != (new.mask is None):
        changes.append("it had a mask, and has none" if new.mask is None else "it had no mask, and has one")
    elif old.mask is not None and new.mask is not None and old.box == new.box:
        intersection, union = int((old.mask & new.mask).sum()), int((old.mask | new.mask).sum())
        if intersection < MIN_MASK_IOU * union:
            changes.append(f"its mask shares {intersection} of {union} pixels with the one before")
    return changes


def _measures(measured: Measurements | None) -> dict[str, float | None]:
    return {} if measured is None else asdict(measured)


def _sorted(regions: list[Region]) -> list[Region]:
    return sorted(regions, key=lambda region: (region.label, region.box))


def _moved(old: Region, new: Region) -> bool:
    far = max(abs(a - b) for a, b in zip(old.box, new.box, strict=True)) > BOX_TOLERANCE_PX
    return old.label != new.label or far or not _close(old.score, new.score)
