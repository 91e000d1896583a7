"""A recorded inspection done again, and compared with what was answered then."""

import hashlib
from dataclasses import dataclass
from pathlib import Path

from blemish.errors import DataError
from blemish.inspection.inspector import Inspector
from blemish.inspection.result import Inspection, Region
from blemish.station.models import InspectionRow
from blemish.station.record import as_inspection

SCORE_TOLERANCE = 1e-4  # of the score: engines round differently with other batches and processors
BOX_TOLERANCE_PX = 2


@dataclass(frozen=True, slots=True)
class Replay:
    inspection: Inspection
    differences: list[str]  # none: the answer is the same

    @property
    def same(self) -> bool:
        return not self.differences


def replay(row: InspectionRow, inspector: Inspector, image: Path) -> Replay:
    """Inspect the image of a record again; raises DataError where it is not the same image."""
    with image.open("rb") as stream:
        if hashlib.file_digest(stream, "sha256").hexdigest() != row.image_sha256:
            raise DataError(f"{image} is not the image of inspection {row.id}: its hash is another")
    again = inspector.inspect(image)
    return Replay(again, differences(as_inspection(row), again))


def differences(before: Inspection, after: Inspection) -> list[str]:
    """In what two inspections of one image differ, a line each."""
    found = [
        f"{name} was {old}, is {new}"
        for name, old, new in (("verdict", before.verdict, after.verdict), ("label", before.label, after.label))
        if old != new
    ]
    if not _close(before.score, after.score):
        found.append(f"score was {before.score:.6g}, is {after.score:.6g}")
    if len(before.regions) != len(after.regions):
        found.append(f"there were {len(before.regions)} regions, there are {len(after.regions)}")
        return found
    pairs = zip(_sorted(before.regions), _sorted(after.regions), strict=True)
    return found + [f"region {old.label} {old.box} is {new.label} {new.box}" for old, new in pairs if _moved(old, new)]


def _close(a: float, b: float) -> bool:
    return a == b or (a != a and b != b) or abs(a - b) <= SCORE_TOLERANCE * max(abs(a), abs(b))


def _sorted(regions: list[Region]) -> list[Region]:
    return sorted(regions, key=lambda region: (region.label, region.box))


def _moved(old: Region, new: Region) -> bool:
    far = max(abs(a - b) for a, b in zip(old.box, new.box, strict=True)) > BOX_TOLERANCE_PX
    return old.label != new.label or far or not _close(old.score, new.score)
