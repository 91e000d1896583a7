"""Read any dataset: which layout it is in, and the samples in it."""

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

from blemish.dataset.annotations import warn_skipped
from blemish.dataset.formats import (
    class_masks,
    classes,
    coco,
    csv_manifest,
    deeppcb,
    elpv,
    good_defect,
    kolektor,
    labelme,
    masks,
    mvtec,
    neu_det,
    severstal,
    voc,
    yolo,
)
from blemish.dataset.formats.base import DataSource, Format
from blemish.dataset.image_files import (
    MASK_NAMES,
    WHOLE_SET_MASKS,
    file_exists,
    first_existing,
    is_defect_name,
    list_folders,
    list_images,
)
from blemish.dataset.sample import GOOD, AnnotationWarning, Dataset, Sample
from blemish.errors import DataError
from blemish.imaging.read import IMAGE_SUFFIXES

_MAX_SHOWN = 3  # lines of skipped annotations and missing files in one message

# A new format is one file in formats/ and one line here.
FORMATS: dict[str, Format] = {
    "mvtec": mvtec.FORMAT,
    "classes": classes.FORMAT,
    "good-defect": good_defect.FORMAT,
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
    "csv": csv_manifest.FORMAT,
}


def read_dataset(path: str | Path, format: str = "auto", root: str | Path | None = None) -> Dataset:
    """Samples of a folder or a CSV manifest; format "auto" recognises the layout.

    `path` "elpv" is the installed package elpv-dataset; format "elpv:0.5" counts cells as defective from a defect
    probability of 0.5 on (otherwise 1 is defective and what is between 0 and 1 is left out). `root` is where the
    relative paths of a CSV or COCO file start. Files roi.png and ignore.png in the dataset's folder hold for all images
    that have none of their own. Annotations that cannot be used are left out, and so are images that are named but do
    not exist, or whose mask, template, ROI or ignore mask does not: `Dataset.broken` lists them. Raises DataError for
    what is empty or unclear, and where no image is left.
    """
    name, _, option = format.partition(":")
    if name not in ("auto", *FORMATS):
        raise DataError(f"format {name!r} is not known; take auto, {', '.join(FORMATS)}")
    place = Path(path)
    if str(path) == "elpv" and not place.exists() and name in ("auto", "elpv"):
        place, name = elpv.package_folder(), "elpv"
    if not place.exists():
        raise DataError(f"{place} does not exist; give a folder of images or a .csv that lists them")
    name = detect_format(place) if name == "auto" else name
    layout = FORMATS[name]
    if option and not layout.has_option:
        raise DataError(f"format {name} takes no option, but was given {option!r}")
    if root is not None and not layout.has_root:
        raise DataError(f"root is where the paths of a CSV or COCO file start; {place} is read as {name}: needs none")
    with _collect_skipped(place) as skipped:
        samples = layout.read(DataSource(place, None if root is None else Path(root), option))
        if not samples:
            raise DataError(f"{place} holds no images in the layout {name} ({layout.description})")
        samples = _drop_missing(place, samples)
    incomplete = {warning.image for warning in skipped}
    base = Path(root) if root is not None else place if place.is_dir() else place.parent
    roi, ignore = (first_existing(base / f"{stem}{suffix}" for suffix in IMAGE_SUFFIXES) for stem in WHOLE_SET_MASKS)
    samples = [_without_annotations(s) if s.image in incomplete else s for s in samples]
    samples = [replace(s, roi=s.roi or roi, ignore=s.ignore or ignore) for s in samples]
    return Dataset(tuple(samples), base, name, tuple(map(str, skipped)))


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
    raise DataError(
        f"{path} is in no layout that is known; say which with --format, one of {', '.join(FORMATS)}, or make two "
        f"folders in it: {path}/good and {path}/defect"
    )


@contextmanager
def _collect_skipped(place: Path) -> Iterator[list[AnnotationWarning]]:
    """Collect the annotations that a reader skips: one warning for all of them; other warnings go on."""
    skipped: list[AnnotationWarning] = []
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        try:
            yield skipped
        except DataError as error:  # that nothing is left follows, perhaps, from what was skipped
            lines = [str(warning.message) for warning in caught if isinstance(warning.message, AnnotationWarning)]
            raise DataError("; ".join([str(error), *lines[:_MAX_SHOWN]])) from error
    for warning in caught:
        if isinstance(warning.message, AnnotationWarning):
            skipped.append(warning.message)
        else:
            warnings.warn(warning.message, warning.category, stacklevel=4)
    if skipped:
        more = f" and {len(skipped) - _MAX_SHOWN} more" if len(skipped) > _MAX_SHOWN else ""
        shown = "; ".join(map(str, skipped[:_MAX_SHOWN]))
        line = f"{place}: {len(skipped)} annotations are left out: {shown}{more}"
        warnings.warn(line, AnnotationWarning, stacklevel=4)


def _without_annotations(sample: Sample) -> Sample:
    """An image of which annotations were skipped: where none remains, that does not make it good."""
    if sample.boxes or sample.shapes:
        return sample
    if sample.label == GOOD:
        sample = replace(sample, label=None, mask=None, mask_classes=None)
    return replace(sample, boxes=None, shapes=None)


def _drop_missing(place: Path, samples: list[Sample]) -> list[Sample]:
    """The samples whose files exist, with a warning for the others; DataError where none does."""
    lines = [f"{', '.join(files)} does not exist" if (files := _missing_files(s)) else "" for s in samples]
    if all(lines):
        shown = "; ".join(lines[:_MAX_SHOWN]) + ("; …" if len(lines) > _MAX_SHOWN else "")
        raise DataError(
            f"{place} names {len(lines)} images, none of which can be used: {shown}; give --root if they are elsewhere"
        )
    for line in filter(None, lines):
        warn_skipped(line)
    return [s for s, line in zip(samples, lines, strict=True) if not line]


def _missing_files(sample: Sample) -> list[str]:
    files = (sample.image, sample.mask, sample.template, sample.roi, sample.ignore)
    return [str(file) for file in files if file is not None and not file_exists(file)]
