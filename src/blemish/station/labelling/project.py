"""A folder of images that people label: the annotations that are there, and what people said since."""

import json
import re
import threading
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path, PurePosixPath

import numpy as np
from pydantic import Field, ValidationError

from blemish.arrays import ClassMap
from blemish.dataset.ground_truth import has_mask, read_class_masks
from blemish.dataset.image_files import list_images
from blemish.dataset.labels import LabelEvidence
from blemish.dataset.read import read_dataset
from blemish.dataset.sample import DEFECT, GOOD, Dataset, Sample
from blemish.errors import DataError, unknown
from blemish.files import FrozenModel, load_yaml, validate, write_atomic
from blemish.imaging.read import IMAGE_SUFFIXES, image_header
from blemish.station.labelling.class_map import split_defects
from blemish.station.labelling.journal import DrawnDefect, ImageLabel, LabelJournal
from blemish.station.models import now

UPLOADS = "uploads"  # folder of the project with images that were dropped on the page


class ClassRule(FrozenModel):
    """An entry of the label book: what belongs to a class, and what just does not."""

    name: str
    rule: str = ""
    borderline: str = ""
    example: str = ""  # image of the project


class _ProjectFile(FrozenModel):
    source: str
    created_by: str
    book: list[ClassRule] = Field(default_factory=list)


class LabelProject:
    """One data set and its labels, in a folder of the station; the images stay where they are and are never changed."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.journal = LabelJournal(folder / "labels.jsonl")
        self._file = validate(
            _ProjectFile, load_yaml(folder / "project.json", str(folder), DataError), str(folder), DataError
        )
        self.source = Path(self._file.source)
        self.samples: dict[str, Sample] = {}  # by the image's name in the project
        self._read_classes: set[str] = set()  # of the annotations that are there
        self.problem = ""  # why the annotations of the folder, if it has any, are not read
        self.reload()

    @property
    def name(self) -> str:
        return self.folder.name

    @property
    def book(self) -> list[ClassRule]:
        return self._file.book

    def reload(self) -> None:
        """List the images again; raises DataError where there is none to read."""
        root = self.source if self.source.is_dir() else self.source.parent
        samples, self.problem = read_images(self.source)
        found = {_name_below(sample.image, root): sample for sample in samples}
        uploads = self.folder / UPLOADS
        found |= {f"{UPLOADS}/{path.name}": Sample(path) for path in list_images(uploads)}
        self.samples = found
        self._read_classes = set(Dataset(tuple(samples), self.source, "labels").defect_classes)

    def write_book(self, book: Sequence[ClassRule]) -> None:
        self._file = self._file.model_copy(update={"book": list(book)})
        write_atomic(self.folder / "project.json", self._file.model_dump_json(indent=1))

    def add_image(self, name: str, content: bytes) -> str:
        """Store an image that was dropped on the page; its name in the project. Raises ImageError for no image.

        An image that is there already, by its content, is not stored again.
        """
        suffix = PurePosixPath(name).suffix.lower()
        if suffix not in IMAGE_SUFFIXES:
            raise DataError(f"'{name[:100]}' is no image file; take one of {', '.join(sorted(IMAGE_SUFFIXES))}")
        stem = re.sub(r"[^\w.-]+", "_", PurePosixPath(name.replace("\\", "/")).stem)[:100].strip("._") or "image"
        folder, number = self.folder / UPLOADS, 0
        while True:
            path = folder / (f"{stem}{suffix}" if not number else f"{stem}-{number}{suffix}")
            if not path.exists():
                break
            if path.read_bytes() == content:
                return f"{UPLOADS}/{path.name}"
            number += 1
        write_atomic(path, content)
        try:
            image_header(path)
        except Exception:
            path.unlink(missing_ok=True)
            raise
        self.samples = {**self.samples, f"{UPLOADS}/{path.name}": Sample(path)}
        return f"{UPLOADS}/{path.name}"

    def sample(self, image: str, person: str | None = None) -> Sample:
        """An image with its latest label, by anybody or by one person alone; DataError where there is no such image."""
        if image not in self.samples:
            raise DataError(f"no image '{image[:200]}' in this project")
        given = self.journal.of_image(image)
        label = self.journal.latest(image) if person is None else given.get(person)
        sample = self.samples[image]
        return sample if label is None else apply_label(sample, label)

    def dataset(self) -> Dataset:
        """All images that have a label, with the latest one."""
        samples = (self.sample(image) for image in self.samples)
        return Dataset(tuple(s for s in samples if s.defective is not None), self.source, "labels")

    def classes(self) -> tuple[str, ...]:
        """GOOD, then the classes of the label book, then all others, DEFECT last."""
        used = self._read_classes | self.journal.classes() - {GOOD}
        return tuple(dict.fromkeys([GOOD, *(rule.name for rule in self.book), *sorted(used - {DEFECT}), DEFECT]))

    def disputed(self, image: str) -> bool:
        """Whether two people gave the image different classes."""
        return len({tuple(sorted(label.labels)) for label in self.journal.of_image(image).values() if label.labels}) > 1


def apply_label(sample: Sample, label: ImageLabel) -> Sample:
    """The sample as a person labelled it. Boxes stay where nobody drew and the classes are the same."""
    one = label.labels[0] if len(label.labels) == 1 else None
    before = {sample.label} if sample.label else set(sample.labels or ())
    kept_boxes = sample.boxes if label.drawn is None and before == set(label.labels) else None
    return replace(
        sample,
        label=one,
        labels=label.labels if len(label.labels) > 1 else None,
        evidence=LabelEvidence.PERSON if label.labels else LabelEvidence.NONE,
        mask=None,
        mask_classes=None,
        boxes=kept_boxes,
        shapes=None if label.drawn is None else tuple(drawn.shape() for drawn in label.drawn),
        split=label.split,
        group=label.group,
    )


def current_label(sample: Sample, image: str, person: str) -> ImageLabel:
    """What is known of an image, as a label by a person, who then changes some of it. Raises ImageError and DataError
    where its mask cannot be read."""
    labels = sample.labels or ((sample.label,) if sample.label else ())
    drawn = None
    if sample.defective and has_mask(sample):
        classes = defect_classes_of(sample)
        found = read_class_map(sample, classes, image_header(sample.image).size)
        drawn = tuple(map(DrawnDefect.of, split_defects(found, classes)))
        labels = labels or tuple(dict.fromkeys(defect.label for defect in drawn)) or (DEFECT,)
    return ImageLabel(image=image, person=person, labels=labels, drawn=drawn, split=sample.split, group=sample.group)


def defect_classes_of(sample: Sample) -> tuple[str, ...]:
    """The defect classes of one image, DEFECT where its mask has none."""
    return Dataset((sample,), sample.image.parent, "labels").defect_classes


def read_class_map(sample: Sample, classes: Sequence[str], size: tuple[int, int]) -> ClassMap:
    """Defect pixels by class of an image of `size` (height, width); none of an image whose pixels are not known."""
    found = np.zeros(size, np.uint8)
    if sample.defective and has_mask(sample):
        for index, layer in enumerate(read_class_masks(sample, classes, size), 1):
            found[layer] = index
    return found


def read_images(source: Path) -> tuple[list[Sample], str]:
    """The samples of a data set in any layout; of a folder that is in none, its images, with nothing known of them, and
    why they are read so. Raises DataError without images."""
    try:
        return list(read_dataset(source).samples), ""
    except DataError as error:
        images = list_images(source, deep=True) if source.is_dir() else []
        if not images:
            raise
        return [Sample(path, evidence=LabelEvidence.NONE) for path in images], str(error)


class LabelProjects:
    """The projects of a station, each opened once, so that all pages see what the others save."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._lock = threading.Lock()
        self._opened: dict[str, LabelProject] = {}

    def names(self) -> list[str]:
        return sorted(path.parent.name for path in self.folder.glob("*/project.json"))

    def open(self, name: str) -> LabelProject:
        """Raises DataError where there is no such project, or its images are gone."""
        with self._lock:
            if name not in self._opened:
                if name not in self.names():
                    raise DataError(unknown("labelling project", name, self.names()))
                self._opened[name] = LabelProject(self.folder / name)
            return self._opened[name]

    def create(self, source: Path, user: str) -> LabelProject:
        """The project of a folder or CSV; the one that there is, or a new one. Raises DataError without images."""
        with self._lock:
            opened = self._find(lambda project: project.source == source)
            if opened is not None:
                opened.reload()
                return opened
            read_images(source)  # before a folder is made for them
            stem = re.sub(r"[^\w.-]+", "_", source.stem if source.is_file() else source.name).strip("._")[:80] or "set"
            taken, name, number = set(self.names()), stem, 1
            while name in taken:
                number += 1
                name = f"{stem}-{number}"
            made = _ProjectFile(source=str(source), created_by=user)
            write_atomic(self.folder / name / "project.json", made.model_dump_json(indent=1))
            self._opened[name] = LabelProject(self.folder / name)
            return self._opened[name]

    def _find(self, matches: Callable[[LabelProject], bool]) -> LabelProject | None:
        for name in self.names():
            if name not in self._opened:
                try:
                    content = json.loads((self.folder / name / "project.json").read_bytes())
                    _ProjectFile.model_validate(content)
                    self._opened[name] = LabelProject(self.folder / name)
                except (DataError, ValidationError, ValueError, OSError):
                    continue  # its images are gone, or it is damaged; opening it by its name says so
            if matches(self._opened[name]):
                return self._opened[name]
        return None


def export_name(project: LabelProject) -> str:
    """The name of the folder that an export of a project is written to."""
    return f"{now():%Y%m%d-%H%M%S}-{project.name}"


def _name_below(path: Path, root: Path) -> str:
    """The path below the root, else the whole of it."""
    return path.relative_to(root).as_posix() if path.is_relative_to(root) else path.as_posix()
