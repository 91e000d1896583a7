"""Where inspections go as they come: CSV (a row a region), JSON lines (an object an image), COCO (regions as RLE)."""

import csv
import json
import sys
from dataclasses import asdict, fields
from pathlib import Path
from types import TracebackType
from typing import Any, Protocol, Self, TextIO

import numpy as np

from blemish.arrays import Mask
from blemish.errors import OptionError
from blemish.geometry import encode_runs
from blemish.inspection.result import Inspection, Measurements, Region

IMAGE_COLUMNS = ["source", "verdict", "label", "score", "height", "width", "regions"]
REGION_COLUMNS = ["region", "region_label", "region_score", "x0", "y0", "x1", "y1"]
MEASURES = [f.name for f in fields(Measurements)]


class Sink(Protocol):
    """Takes inspections one by one; use it in a `with` statement."""

    def append(self, inspection: Inspection) -> None: ...
    def __enter__(self) -> Self: ...
    def __exit__(self, *details: Any) -> None: ...


class _TextSink:
    """A text file, or stdout for `-`, written through at once so that an interruption keeps what was done."""

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        self._stream: TextIO

    def __enter__(self) -> Self:
        if str(self.path) == "-":
            self._stream = sys.stdout
        else:
            try:
                self.path.parent.mkdir(parents=True, exist_ok=True)
                self._stream = self.path.open("w", encoding="utf-8", newline="")
            except OSError as error:
                raise OptionError(f"cannot write {self.path}: {error.strerror}; choose another file") from error
        self._begin()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._end()
        self._stream.flush()
        if self._stream is not sys.stdout:
            self._stream.close()

    def _begin(self) -> None:
        pass

    def _end(self) -> None:
        pass


class CsvSink(_TextSink):
    """A row for each region, and one for an image without regions."""

    def _begin(self) -> None:
        self._writer = csv.writer(self._stream)
        self._writer.writerow(IMAGE_COLUMNS + REGION_COLUMNS + MEASURES)

    def append(self, inspection: Inspection) -> None:
        height, width = inspection.size
        head = [inspection.source or "", str(inspection.verdict), inspection.label, _plain(inspection.score)]
        head += [height, width, len(inspection.regions)]
        for number, region in enumerate(inspection.regions, start=1):
            measured = [None] * len(MEASURES)
            if region.measurements is not None:
                measured = [_plain(getattr(region.measurements, name)) for name in MEASURES]
            self._writer.writerow([*head, number, region.label, _plain(region.score), *region.box, *measured])
        if not inspection.regions:
            self._writer.writerow(head + [None] * (len(REGION_COLUMNS) + len(MEASURES)))
        self._stream.flush()


class JsonSink(_TextSink):
    """JSON lines: one object an image, its regions with their measurements inside."""

    def append(self, inspection: Inspection) -> None:
        self._stream.write(json.dumps(as_dict(inspection), ensure_ascii=False) + "\n")
        self._stream.flush()


class CocoSink(_TextSink):
    """One COCO file of all regions, masks as uncompressed RLE; complete when the sink is closed."""

    def _begin(self) -> None:
        self._images: list[dict[str, Any]] = []
        self._annotations: list[dict[str, Any]] = []
        self._categories: dict[str, int] = {}

    def append(self, inspection: Inspection) -> None:
        number = len(self._images) + 1
        height, width = inspection.size
        self._images.append(
            {"id": number, "file_name": inspection.source or f"{number}", "height": height, "width": width}
        )
        for region in inspection.regions:
            category = self._categories.setdefault(region.label, len(self._categories) + 1)
            x0, y0, x1, y1 = region.box
            entry = {
                "id": len(self._annotations) + 1,
                "image_id": number,
                "category_id": category,
                "bbox": [x0, y0, x1 - x0, y1 - y0],
                "area": int(region.mask.sum()) if region.mask is not None else (x1 - x0) * (y1 - y0),
                "score": _plain(region.score),
                "iscrowd": 0,
            }
            if region.mask is not None:
                entry["segmentation"] = {"size": [height, width], "counts": run_lengths(region, inspection.size)}
            self._annotations.append(entry)

    def _end(self) -> None:
        categories = [{"id": number, "name": name} for name, number in self._categories.items()]
        json.dump({"images": self._images, "annotations": self._annotations, "categories": categories}, self._stream)


def as_dict(inspection: Inspection) -> dict[str, Any]:
    """An inspection as plain data; without its heat map and masks, whose boxes and measurements stay."""
    return {
        "source": inspection.source,
        "verdict": str(inspection.verdict),
        "label": inspection.label,
        "score": _plain(inspection.score),
        "size": list(inspection.size),
        "reasons": [asdict(reason) for reason in inspection.reasons],
        "class_scores": inspection.class_scores and {k: _plain(v) for k, v in inspection.class_scores.items()},
        "regions": [
            {
                "label": region.label,
                "score": _plain(region.score),
                "box": list(region.box),
                "measurements": region.measurements and {k: _plain(v) for k, v in asdict(region.measurements).items()},
            }
            for region in inspection.regions
        ],
        "timings_ms": {k: round(v, 3) for k, v in inspection.timings_ms.items()},
    }


def run_lengths(region: Region, size: tuple[int, int]) -> list[int]:
    """COCO's run lengths of a region's mask in the whole image (height, width), column by column, background first."""
    whole: Mask = np.zeros(size, np.bool_)
    x0, y0, x1, y1 = region.box
    whole[y0:y1, x0:x1] = True if region.mask is None else region.mask
    return encode_runs(whole)


def _plain(value: Any) -> Any:
    """A float with seven digits, which is all that float32 holds."""
    return float(f"{value:.7g}") if isinstance(value, float | np.floating) else value
