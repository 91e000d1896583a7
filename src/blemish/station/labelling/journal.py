"""What people said of the images of a data set: a file that only grows, a line each time somebody saved an image."""

import json
import threading
from collections.abc import Iterable
from datetime import datetime
from pathlib import Path

from pydantic import Field, ValidationError

from blemish.dataset.sample import GOOD
from blemish.errors import DataError
from blemish.files import FrozenModel, append_whole
from blemish.geometry import Rle, runs_from_text, runs_to_text
from blemish.station.models import now


class DrawnDefect(FrozenModel):
    """The pixels of one defect, as run lengths in COCO's short form."""

    label: str
    height: int = Field(ge=1)
    width: int = Field(ge=1)
    counts: str

    @classmethod
    def of(cls, shape: Rle) -> "DrawnDefect":
        return cls(label=shape.label, height=shape.height, width=shape.width, counts=runs_to_text(shape.counts))

    def shape(self) -> Rle:
        return Rle(runs_from_text(self.counts), self.height, self.width, self.label)


class ImageLabel(FrozenModel):
    """All that one person said of one image; the latest of a person replaces the ones before."""

    image: str  # relative to the project's folder of images, with "/"
    person: str
    time: datetime = Field(default_factory=now)
    labels: tuple[str, ...] = ()  # ("good",), or the classes of its defects; (): the label was taken back
    drawn: tuple[DrawnDefect, ...] | None = None  # None: nobody drew where the defects are
    split: str | None = None
    group: str | None = None
    note: str = ""

    @property
    def defective(self) -> bool:
        return bool(self.labels) and self.labels != (GOOD,)


class LabelJournal:
    """The labels in a file, by image and person; safe for several threads. A half line at the end is dropped."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._lock = threading.Lock()
        self._labels: dict[str, dict[str, ImageLabel]] = {}
        self._load()

    def add(self, labels: Iterable[ImageLabel]) -> None:
        """Append labels; they are on the disk when this returns. OSError where none of them is, as of a full disk."""
        labels = list(labels)
        lines = "".join(label.model_dump_json() + "\n" for label in labels)
        with self._lock:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            with self.path.open("ab", buffering=0) as stream:
                append_whole(stream, lines.encode("utf-8", "backslashreplace"), self.path, sync=True)
            for label in labels:
                self._keep(label)

    def of_image(self, image: str) -> dict[str, ImageLabel]:
        """The label of each person, the one that was saved last at the end."""
        return dict(self._labels.get(image, {}))

    def latest(self, image: str) -> ImageLabel | None:
        given = self._labels.get(image)
        return None if not given else next(reversed(given.values()))

    def classes(self) -> set[str]:
        """All that anybody's label says, GOOD as well."""
        return {name for given in self._labels.values() for label in given.values() for name in label.labels}

    def people(self) -> list[str]:
        return sorted({person for given in self._labels.values() for person in given})

    def _keep(self, label: ImageLabel) -> None:
        given = self._labels.setdefault(label.image, {})
        given.pop(label.person, None)
        given[label.person] = label

    def _load(self) -> None:
        if not self.path.exists():
            return
        content = self.path.read_bytes()
        *lines, rest = content.split(b"\n")
        if rest:  # the end of a line that was being written when the power went; the next one begins after it
            with self.path.open("r+b") as stream:
                stream.truncate(len(content) - len(rest))
        for number, line in enumerate(lines, 1):
            try:
                self._keep(ImageLabel.model_validate(json.loads(line)))
            except (ValueError, ValidationError) as error:
                raise DataError(
                    f"{self.path}, line {number} is damaged; restore the file, or remove that line"
                ) from error
