"""How many pixels of a defect are enough to find it, as MVTec LOCO's defects_config.json states it for each type."""

from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

from blemish.dataset.annotations import read_json
from blemish.dataset.sample import Sample
from blemish.errors import DataError

FILE = "defects_config.json"


@dataclass(frozen=True)
class Saturation:
    """A share of the defect's pixels where `relative`, else their number."""

    threshold: float
    relative: bool

    def pixels(self, area: int) -> float:
        """The pixels that are enough of a defect of `area` pixels: never more than it has."""
        return self.threshold * area if self.relative else min(self.threshold, float(area))


def find_saturations(sample: Sample) -> dict[str, Saturation]:
    """The saturation of each defect type of the sample's category; empty where the category states none.

    Raises DataError for a file that names a saturation which is none.
    """
    places = [parent / FILE for parent in list(sample.image.parents)[1:3]]  # above test/TYPE/IMAGE
    file = next((place for place in places if place.is_file()), None)
    return {} if file is None else _read(file)


@lru_cache(maxsize=64)
def _read(file: Path) -> dict[str, Saturation]:
    content = read_json(file)
    rows = content if isinstance(content, list) else []
    found = {}
    for row in rows:
        if not isinstance(row, dict) or "saturation_threshold" not in row:
            continue
        threshold, relative = row["saturation_threshold"], bool(row.get("relative_saturation"))
        name = str(row.get("defect_name")).strip()
        if not isinstance(threshold, int | float) or not 0 < threshold <= (1 if relative else float("inf")):
            raise DataError(f"{file}: {threshold!r} is no saturation of '{name}'")
        found[name] = Saturation(float(threshold), relative)
    return found
