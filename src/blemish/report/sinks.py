"""Files that take inspections as they come: CSV (a row a region), JSON lines (an object an image), COCO (one file)."""

import csv
import json
import sys
from pathlib import Path
from types import TracebackType
from typing import Any, Protocol, Self, TextIO

import numpy as np

from blemish.errors import OptionError
from blemish.inspection.convert import IMAGE_COLUMNS, MEASUREMENTS, REGION_COLUMNS, to_coco, to_dict, to_rows
from blemish.inspection.result import Inspection


class Sink(Protocol):
    """Takes inspections one by one; use it in a `with` statement."""

    def append(self, inspection: Inspection) -> None: ...
    def __enter__(self) -> Self: ...
    def __exit__(self, *details: Any) -> None: ...


class _TextSink:
    """A text file, or stdout for `-`, flushed after every inspection so that an interruption keeps what was done."""

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
        self._writer = csv.DictWriter(self._stream, [*IMAGE_COLUMNS, *REGION_COLUMNS, *MEASUREMENTS])
        self._writer.writeheader()

    def append(self, inspection: Inspection) -> None:
        for row in to_rows(inspection):
            self._writer.writerow({name: _short(value) for name, value in row.items()})
        self._stream.flush()


class JsonSink(_TextSink):
    """JSON lines of the published schema: one object an image; its regions have boxes and measurements, no masks."""

    def append(self, inspection: Inspection) -> None:
        self._stream.write(json.dumps(to_dict(inspection, masks=False), ensure_ascii=False) + "\n")
        self._stream.flush()


class CocoSink(_TextSink):
    """One COCO file of all regions, masks as uncompressed RLE; complete when the sink is closed."""

    def _begin(self) -> None:
        self._images: list[dict[str, Any]] = []
        self._annotations: list[dict[str, Any]] = []
        self._categories: dict[str, int] = {}

    def append(self, inspection: Inspection) -> None:
        number, (height, width) = len(self._images) + 1, inspection.size
        name = inspection.source or f"{number}"
        self._images.append({"id": number, "file_name": name, "height": height, "width": width})
        self._annotations += to_coco(inspection, number, self._categories, len(self._annotations) + 1)

    def _end(self) -> None:
        categories = [{"id": number, "name": name} for name, number in self._categories.items()]
        json.dump({"images": self._images, "annotations": self._annotations, "categories": categories}, self._stream)


def _short(value: Any) -> Any:
    """A float with seven digits, which is all that float32 holds."""
    return float(f"{value:.7g}") if isinstance(value, float | np.floating) else value
