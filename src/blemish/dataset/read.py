"""One door for every dataset: what it is taken for, and the samples in it."""

import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

from blemish.dataset.annotations import left_out
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
from blemish.dataset.image_files import (
    MASK_NAMES,
    WHOLE_SET_MASKS,
    first_existing,
    folders_in,
    images_in,
    is_defect_name,
    is_file,
)
from blemish.dataset.sample import GOOD, AnnotationWarning, Dataset, Sample
from blemish.errors import DataError
from blemish.imaging.read import IMAGE_SUFFIXES


@dataclass(frozen=True)
class Format:
    """A layout of files: how to know it, read it and, where that makes sense, write it."""

    says: str
    looks_like: Callable[[Path], bool]  # cheap: lists folders, reads a line; at most one format claims a place
    read: Callable[[Path], list[Sample]]
    write: Callable[[Dataset, Path], list[str]] | None = None  # returns what could not be kept, a line each


# A new format is one file in formats/ and one line here.
FORMATS: dict[str, Format] = {
    "mvtec": Format(mvtec.SAYS, mvtec.looks_like, mvtec.read, mvtec.write),
    "classes": Format(classes.SAYS, classes.looks_like, classes.read, classes.write),
    "good-defect": Format(good_defect.SAYS, good_defect.looks_like, good_defect.read, good_defect.write),
    "masks": Format(masks.SAYS, masks.looks_like, masks.read, masks.write),
    "class-masks": Format(class_masks.SAYS, class_masks.looks_like, class_masks.read, class_masks.write),
    "voc": Format(voc.SAYS, voc.looks_like, voc.read, voc.write),
    "coco": Format(coco.SAYS, coco.looks_like, coco.read, coco.write),
    "yolo": Format(yolo.SAYS, yolo.looks_like, yolo.read, yolo.write),
    "labelme": Format(labelme.SAYS, labelme.looks_like, labelme.read, labelme.write),
    "deeppcb": Format(deeppcb.SAYS, deeppcb.looks_like, deeppcb.read, deeppcb.write),
    "severstal": Format(severstal.SAYS, severstal.looks_like, severstal.read, severstal.write),
    "neu-det": Format(neu_det.SAYS, neu_det.looks_like, neu_det.read, neu_det.write),
    "kolektor": Format(kolektor.SAYS, kolektor.looks_like, kolektor.read),
    "elpv": Format(elpv.SAYS, elpv.looks_like, elpv.read),
    "csv": Format(csv_manifest.SAYS, csv_manifest.looks_like, csv_manifest.read, csv_manifest.write),
}


def read_dataset(path: str | Path, format: str = "auto", root: str | Path | None = None) -> Dataset:
    """Samples of a folder or a CSV manifest; format "auto" finds out what it is.

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
    if option and name != "elpv":
        raise DataError(f"format {name} takes no option, but was given {option!r}")
    if root is not None and name not in ("csv", "coco"):
        raise DataError(f"root is where the paths of a CSV or COCO file start; {place} is read as {name}: needs none")
    base = Path(root) if root is not None else place if place.is_dir() else place.parent
    with _broken(place) as broken:
        if name == "csv":
            samples = csv_manifest.read(place, base)
        elif name == "elpv":
            samples = elpv.read(place, option)
        elif name == "coco":
            samples = coco.read(place, None if root is None else Path(root))
        else:
            samples = FORMATS[name].read(place)
        if not samples:
            raise DataError(f"{place} holds no images in the layout {name} ({FORMATS[name].says})")
        samples = _with_files(place, samples)
    spoilt = {warning.image for warning in broken}
    samples = [_of_unknown_truth(s) if s.image in spoilt else s for s in samples]
    return Dataset(tuple(_with_whole_set_masks(samples, base)), base, name, tuple(map(str, broken)))


@contextmanager
def _broken(place: Path) -> Iterator[list[AnnotationWarning]]:
    """Collect the annotations that a reader leaves out: one warning for all of them; other warnings go on."""
    lines: list[AnnotationWarning] = []
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        try:
            yield lines
        except DataError as error:  # that nothing is left follows, perhaps, from what was left out
            told = [str(warning.message) for warning in caught if isinstance(warning.message, AnnotationWarning)]
            raise DataError("; ".join([str(error), *told[:3]])) from error
    for warning in caught:
        if isinstance(warning.message, AnnotationWarning):
            lines.append(warning.message)
        else:
            warnings.warn(warning.message, warning.category, stacklevel=4)
    if lines:
        more = f" and {len(lines) - 3} more" if len(lines) > 3 else ""
        shown = "; ".join(map(str, lines[:3]))
        warnings.warn(f"{place}: {len(lines)} annotations are left out: {shown}{more}", AnnotationWarning, stacklevel=4)


def detect_format(path: Path) -> str:
    """Name of the one format that the place looks like; DataError naming the candidates for none or several."""
    found = [name for name, known in FORMATS.items() if known.looks_like(path)]
    if len(found) == 1:
        return found[0]
    if found:
        raise DataError(f"{path} looks like several layouts: {', '.join(found)}; say which with --format")
    if path.is_dir() and not any(images_in(path)) and not folders_in(path):
        raise DataError(f"{path} is an empty folder: no images and no sub-folders")
    if path.is_dir() and images_in(path):
        raise DataError(f"{path} holds images, but nothing tells good from defective; put the good ones in {path}/good")
    if path.suffix.lower() in IMAGE_SUFFIXES:
        raise DataError(f"{path} is one image; give a folder of images or a .csv that lists them")
    if folders_in(path) and all(is_defect_name(f.name) or f.name.lower() in MASK_NAMES for f in folders_in(path)):
        raise DataError(f"{path} holds defective images and no good ones; put good ones in {path}/good")
    raise DataError(
        f"{path} is in no layout that is known; say which with --format, one of {', '.join(FORMATS)}, or make two "
        f"folders in it: {path}/good and {path}/defect"
    )


def _of_unknown_truth(sample: Sample) -> Sample:
    """An image of which annotations were left out: where none remains, that does not make it good."""
    if sample.boxes or sample.shapes:
        return sample
    if sample.label == GOOD:
        sample = replace(sample, label=None, mask=None, mask_classes=None)
    return replace(sample, boxes=None, shapes=None)


def _with_files(place: Path, samples: list[Sample]) -> list[Sample]:
    """The samples whose files exist; the others are left out with a warning. DataError where there are no others."""
    lines = [f"{', '.join(files)} does not exist" if (files := _missing(s)) else "" for s in samples]
    if all(lines):
        shown = "; ".join(lines[:3]) + ("; …" if len(lines) > 3 else "")
        raise DataError(
            f"{place} names {len(lines)} images, none of which can be used: {shown}; give --root if they are elsewhere"
        )
    for line in filter(None, lines):
        left_out(line)
    return [s for s, line in zip(samples, lines, strict=True) if not line]


def _missing(sample: Sample) -> list[str]:
    files = (sample.image, sample.mask, sample.template, sample.roi, sample.ignore)
    return [str(file) for file in files if file is not None and not is_file(file)]


def _with_whole_set_masks(samples: list[Sample], base: Path) -> list[Sample]:
    roi, ignore = (first_existing(base / f"{name}{suffix}" for suffix in IMAGE_SUFFIXES) for name in WHOLE_SET_MASKS)
    return [replace(s, roi=s.roi or roi, ignore=s.ignore or ignore) for s in samples]
