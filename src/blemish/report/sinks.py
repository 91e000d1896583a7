"""Files that take inspections as they come: CSV (a row a region), JSON lines (an object an image), COCO (one file)."""

import csv
import errno
import io
import json
import sys
import tempfile
from pathlib import Path
from types import TracebackType
from typing import Any, BinaryIO, Protocol, Self

import numpy as np

import blemish
from blemish.dataset.own_results import INSPECTED_BY
from blemish.errors import OptionError
from blemish.files import append_whole, write_atomic
from blemish.inspection.convert import IMAGE_COLUMNS, MEASUREMENTS, REGION_COLUMNS, to_coco, to_dict, to_rows
from blemish.inspection.result import Inspection


class Sink(Protocol):
    """Takes inspections one by one; use it in a `with` statement."""

    def append(self, inspection: Inspection) -> None: ...
    def __enter__(self) -> Self: ...
    def __exit__(self, *details: Any) -> None: ...


class _TextSink:
    """A text file, or stdout for `-`: each inspection is written at once, so that an interruption keeps what was done.

    Bytes of file names that are no UTF-8 become escapes such as `\\udcf6`, which JSON reads back. An OSError, as of a
    full disk, names the file, and leaves whole lines.
    """

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        self._stream: BinaryIO | None = None

    def __enter__(self) -> Self:
        if str(self.path) != "-":
            try:
                self.path.parent.mkdir(parents=True, exist_ok=True)
                self._open()
            except OSError as error:
                raise OptionError(f"cannot write {self.path}: {error.strerror}; choose another file") from error
        self._begin()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            self._end()
        finally:
            if self._stream is not None:
                self._stream.close()

    def _open(self) -> None:
        self._stream = self.path.open("wb", buffering=0)

    def _begin(self) -> None:
        pass

    def _end(self) -> None:
        pass

    def _write(self, text: str) -> None:
        """Write whole lines, or none of them."""
        if self._stream is None:
            sys.stdout.write(text)
            sys.stdout.flush()
            return
        append_whole(self._stream, text.encode("utf-8", "backslashreplace"), self.path)


class CsvSink(_TextSink):
    """A row for each region, and one for an image without regions."""

    def _begin(self) -> None:
        self._text = io.StringIO(newline="")
        self._writer = csv.DictWriter(self._text, [*IMAGE_COLUMNS, *REGION_COLUMNS, *MEASUREMENTS])
        self._writer.writeheader()
        self._flush()

    def append(self, inspection: Inspection) -> None:
        for row in to_rows(inspection):
            self._writer.writerow({name: escape_formula(_short(value)) for name, value in row.items()})
        self._flush()

    def _flush(self) -> None:
        self._write(self._text.getvalue())
        self._text.seek(0)
        self._text.truncate()


class JsonSink(_TextSink):
    """JSON lines of the published schema: one object an image; its regions have boxes and measurements, no masks."""

    def append(self, inspection: Inspection) -> None:
        self._write(json.dumps(to_dict(inspection, masks=False), ensure_ascii=False) + "\n")


class CocoSink(_TextSink):
    """One COCO file of all regions, masks as uncompressed RLE; written as a whole when the sink is closed."""

    def _open(self) -> None:
        if self.path.is_dir():
            raise IsADirectoryError(errno.EISDIR, "it is a folder")
        if not self.path.exists() or self.path.is_file():
            with tempfile.TemporaryFile(dir=self.path.parent):  # the folder can be written to
                pass

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
        own = {INSPECTED_BY: f"blemish {blemish.__version__}"}  # it is no annotation
        text = json.dumps({**own, "images": self._images, "annotations": self._annotations, "categories": categories})
        if str(self.path) == "-":
            self._write(text)
        else:
            write_atomic(self.path, text)


def escape_formula(value: Any) -> Any:
    """Text that a spreadsheet would read as a formula gets an apostrophe."""
    return f"'{value}" if isinstance(value, str) and value.startswith(("=", "+", "-", "@", "\t", "\r")) else value


def _short(value: Any) -> Any:
    """A float with seven digits, which is all that float32 holds."""
    return float(f"{value:.7g}") if isinstance(value, float | np.floating) else value
