"""Read any dataset: which layout it is in, and the samples in it."""

import warnings
from collections import Counter
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path

from blemish.dataset.annotations import warn_skipped
from blemish.dataset.contents import sample_files
from blemish.dataset.folder_doubts import check_folders
from blemish.dataset.formats import (
    class_masks,
    classes,
    coco,
    csv_manifest,
    cvat,
    dagm,
    deeppcb,
    elpv,
    fiftyone,
    gc10_det,
    good_defect,
    kolektor,
    kolektor_sdd2,
    label_studio,
    labelme,
    masks,
    mvtec,
    mvtec_ad2,
    neu_det,
    real_iad,
    roboflow_masks,
    severstal,
    supervisely,
    views,
    visa,
    voc,
    yolo,
)
from blemish.dataset.formats.base import DataSource, Format
from blemish.dataset.image_files import (
    MASK_NAMES,
    WHOLE_SET_MASKS,
    file_exists,
    first_existing,
    list_folders,
    list_images,
)
from blemish.dataset.labels import LabelEvidence, Unlabelled, extra_good_names, is_defect_name
from blemish.dataset.passed_over import count_passed_over
from blemish.dataset.resolve import doubtful_classes, resolve_labels
from blemish.dataset.sample import AnnotationNote, AnnotationWarning, Dataset, Note, Sample
from blemish.dataset.unknown_layout import describe_tree, nearest_layout
from blemish.errors import DataError
from blemish.imaging.read import IMAGE_SUFFIXES

_MAX_SHOWN = 3  # lines of skipped annotations and missing files in one message

# A new format is one file in formats/ and one line here.
FORMATS: dict[str, Format] = {
    "mvtec": mvtec.FORMAT,
    "classes": classes.FORMAT,
    "good-defect": good_defect.FORMAT,
    "views": views.FORMAT,
    "masks": masks.FORMAT,
    "class-masks": class_masks.FORMAT,
    "voc": voc.FORMAT,
    "coco": coco.FORMAT,
    "yolo": yolo.FORMAT,
    "labelme": labelme.FORMAT,
    "deeppcb": deeppcb.FORMAT,
    "severstal": severstal.FORMAT,
    "neu-det": neu_det.FORMAT,
    "kolektor": kolektor.FORMAT,
    "elpv": elpv.FORMAT,
    "label-studio": label_studio.FORMAT,
    "cvat": cvat.FORMAT,
    "supervisely": supervisely.FORMAT,
    "fiftyone": fiftyone.FORMAT,
    "roboflow-masks": roboflow_masks.FORMAT,
    "visa": visa.FORMAT,
    "mvtec-ad-2": mvtec_ad2.FORMAT,
    "kolektor-sdd2": kolektor_sdd2.FORMAT,
    "dagm": dagm.FORMAT,
    "gc10-det": gc10_det.FORMAT,
    "real-iad": real_iad.FORMAT,
    "csv": csv_manifest.FORMAT,
}


def read_dataset(
    path: str | Path,
    format: str = "auto",
    root: str | Path | None = None,
    good: Iterable[str] = (),
    unlabelled: Unlabelled = "unknown",
) -> Dataset:
    """Samples of a folder or a CSV manifest; format "auto" recognises the layout.

    `path` "elpv" is the installed package elpv-dataset; format "elpv:0.5" counts cells as defective from a defect
    probability of 0.5 on (otherwise 1 is defective and what is between 0 and 1 is left out). `root` is where the
    relative paths of a CSV or COCO file start. `good` are further names of good classes and folders;
    `unlabelled` says what images are of which nothing says anything, where the layout has no convention for them. Files
    roi.png and ignore.png in the dataset's folder hold for all images that have none of their own.

    An image is good only where something says so (see `resolve_labels`). Annotations that cannot be used are set aside,
    which makes the labels of their images unknown, and images are left out that are named but do not exist, or whose
    mask, template, ROI or ignore mask does not: `Dataset.broken` lists both. Raises DataError for what is empty or
    unclear, and where no image is left.
    """
    name, _, option = format.partition(":")
    if name not in ("auto", *FORMATS):
        raise DataError(f"format {name!r} is not known; take auto, {', '.join(FORMATS)}")
    place = Path(path)
    if str(path) == "elpv" and not place.exists() and name in ("auto", "elpv"):
        place, name = elpv.package_folder(), "elpv"
    if not place.exists():
        raise DataError(f"{place} does not exist; give a folder of images or a .csv that lists them")
    with extra_good_names(good):
        name = detect_format(place) if name == "auto" else name
        layout = FORMATS[name]
        if option and not layout.has_option:
            raise DataError(f"format {name} takes no option, but was given {option!r}")
        if root is not None and not layout.has_root:
            raise DataError(f"--root is where the paths of a CSV or COCO file start; {place} is read as {name}")
        with _collect_warnings(place) as collected:
            samples = layout.read(DataSource(place, None if root is None else Path(root), option))
            if not samples:
                raise DataError(f"{place} holds no images in the layout {name} ({layout.description})")
            check_folders(place, samples)
            samples = _drop_missing(place, samples, layout.has_root)
            samples = resolve_labels(samples, layout.convention, collected.skipped, unlabelled)
    base = Path(root) if root is not None else place if place.is_dir() else place.parent
    roi, ignore = (first_existing(base / f"{stem}{suffix}" for suffix in IMAGE_SUFFIXES) for stem in WHOLE_SET_MASKS)
    samples = [replace(s, roi=s.roi or roi, ignore=s.ignore or ignore) for s in samples]
    unknown = sum(s.evidence is LabelEvidence.NONE for s in samples)
    collected.warn_once(place, unknown)
    for doubtful in doubtful_classes(samples):
        warnings.warn(
            f"{place}: class {doubtful!r} is taken for a defect; if it is of good parts, say --good '{doubtful}'",
            stacklevel=2,
        )
    broken = tuple(str(warning) for warning in collected.skipped)
    passed_over = tuple(count_passed_over(place, samples).items())
    return Dataset(tuple(samples), base, name, broken, tuple(collected.notes), passed_over)


def read_present(listed: Path) -> Dataset:
    """The images of a CSV that are still where they were; none where the list itself is gone."""
    with warnings.catch_warnings(), suppress(DataError):
        warnings.simplefilter("ignore")
        return read_dataset(listed, "csv")
    return Dataset((), listed.parent, "csv")


def detect_format(path: Path) -> str:
    """Name of the one format that the place looks like; DataError naming the candidates for none or several."""
    found = [name for name, layout in FORMATS.items() if layout.looks_like(path)]
    if len(found) == 1:
        return found[0]
    if found:
        raise DataError(f"{path} looks like several layouts: {', '.join(found)}; say which with --format")
    folders = list_folders(path)
    if path.is_dir() and not any(list_images(path)) and not folders:
        raise DataError(f"{path} is an empty folder: no images and no sub-folders")
    if path.is_dir() and list_images(path):
        raise DataError(f"{path} holds images, but no folder says which are good; put the good ones in {path}/good")
    if path.suffix.lower() in IMAGE_SUFFIXES:
        raise DataError(f"{path} is one image; give a folder of images or a .csv that lists them")
    if folders and all(is_defect_name(f.name) or f.name.lower() in MASK_NAMES for f in folders):
        raise DataError(f"{path} holds defective images and no good ones; put good ones in {path}/good")
    if not path.is_dir():
        raise DataError(f"{path} is in no layout that is known; say which with --format, one of {', '.join(FORMATS)}")
    layout, missing = nearest_layout(path)
    raise DataError(
        f"{path} is in no layout that is known: {describe_tree(path)}; nearest is {layout}, for which is missing: "
        f"{missing}; say which with --format, one of {', '.join(FORMATS)}, or make two folders: {path}/good and "
        f"{path}/defect"
    )


class _Collected:
    """Annotations that a reader sets aside or adapts, collected from its warnings."""

    def __init__(self, caught: list[warnings.WarningMessage]) -> None:
        self._caught = caught

    @property
    def skipped(self) -> list[AnnotationWarning]:
        return [w.message for w in self._caught if isinstance(w.message, AnnotationWarning)]

    @property
    def notes(self) -> list[Note]:
        return [w.message.note for w in self._caught if isinstance(w.message, AnnotationNote)]

    def warn_once(self, place: Path, unknown: int) -> None:
        """One warning for all that was set aside, one for each way of adapting; other warnings as they came."""
        for other in self._caught:
            if not isinstance(other.message, AnnotationWarning | AnnotationNote):
                warnings.warn(other.message, other.category, stacklevel=3)
        if skipped := self.skipped:
            more = f" and {len(skipped) - _MAX_SHOWN} more" if len(skipped) > _MAX_SHOWN else ""
            shown = "; ".join(map(str, skipped[:_MAX_SHOWN]))
            labels = f", {unknown} images have no known label" if unknown else ""
            line = f"{place}: {len(skipped)} annotations are set aside{labels}: {shown}{more}"
            warnings.warn(line, AnnotationWarning, stacklevel=3)
        for what, count in Counter(note.what for note in self.notes).items():
            first = next(note.image for note in self.notes if note.what == what)
            warnings.warn(f"{place}: {what} in {count} images, such as {first}", stacklevel=3)


@contextmanager
def _collect_warnings(place: Path) -> Iterator[_Collected]:
    """Collect what a reader warns of; DataErrors name what was set aside before them."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        collected = _Collected(caught)
        try:
            yield collected
        except DataError as error:  # that nothing is left follows, perhaps, from what was set aside
            lines = [str(warning) for warning in collected.skipped[:_MAX_SHOWN]]
            raise DataError("; ".join([str(error), *lines])) from error


def _drop_missing(place: Path, samples: list[Sample], has_root: bool) -> list[Sample]:
    """The samples whose files exist, with a warning for the others; DataError where none does."""
    lines = [f"{', '.join(files)} does not exist" if (files := _missing_files(s)) else "" for s in samples]
    if all(lines):
        shown = "; ".join(lines[:_MAX_SHOWN]) + ("; …" if len(lines) > _MAX_SHOWN else "")
        hint = "; give --root if they are elsewhere" if has_root else ""
        raise DataError(f"{place} names {len(lines)} images, none of which can be used: {shown}{hint}")
    for line in filter(None, lines):
        warn_skipped(line)
    return [s for s, line in zip(samples, lines, strict=True) if not line]


def _missing_files(sample: Sample) -> list[str]:
    return [str(file) for file in sample_files(sample) if not file_exists(file)]
