"""Images with masks of the same name: MT_<class>/Imgs/*.jpg beside *.png (magnetic tile), or images/ and masks/."""

import re
from collections.abc import Iterator, Sequence
from pathlib import Path

from blemish.dataset.annotations import file_key, match_files
from blemish.dataset.export import write_classified
from blemish.dataset.formats import class_masks, yolo
from blemish.dataset.formats.base import Convention, DataSource, Format
from blemish.dataset.image_files import (
    IMAGE_FOLDER_NAMES,
    MaskTree,
    find_folder,
    list_folders,
    list_images,
    list_subsets,
    split_step,
)
from blemish.dataset.labels import LabelEvidence, normalize_label
from blemish.dataset.sample import GOOD, Dataset, Sample
from blemish.errors import DataError

_TILE = re.compile(r"^MT_(\w+)$", re.IGNORECASE)
_MASKS = ("masks", "mask", "ground_truth", "gt", "labels", "label")
_PHOTO = (".jpg", ".jpeg", ".bmp", ".tif", ".tiff")


def looks_like(path: Path) -> bool:
    if _tile_folders(path):
        return True
    if class_masks.looks_like(path) or yolo.looks_like(path):
        return False
    # Without any mask, labels of another kind would make every image a good one.
    return any(list_images(masks, deep=True) for _, _, masks in _subsets(path)) or _has_same_named(path)


def read(source: DataSource) -> list[Sample]:
    folders = _tile_folders(source.path)
    if folders:
        return [sample for folder in folders for sample in _read_tile_folder(folder)]
    if _has_same_named(source.path):
        return list(_read_photos(list_images(source.path), source.path, None))
    samples = []
    for split, images, masks in _subsets(source.path):
        tree = MaskTree(masks)
        for image in list_images(images, deep=True):
            found = tree.find(image, image.parent.relative_to(images))
            own, folder = split_step(image, images)
            label = normalize_label(folder.parts[0]) if folder.parts else None
            evidence = LabelEvidence.FOLDER if label else None
            samples.append(Sample(image, label, split or own, evidence=evidence, **found))
        tree.warn_unmatched(images)
    _check_classes(samples)
    return samples


def _check_classes(samples: Sequence[Sample]) -> None:
    """DataError where images without a mask lie in folders none of which is of good parts, as those of cameras are."""
    by_folder = [s for s in samples if s.evidence is LabelEvidence.FOLDER]
    bare = next((s for s in by_folder if s.mask is None and s.shapes is None), None)
    if bare is not None and all(s.label != GOOD for s in by_folder):
        raise DataError(
            f"{bare.image} has no mask, and its folder '{bare.label}' may be a class or not: no folder of images is of "
            "good parts; rename one to good, or put the images of all folders into one"
        )


def write(dataset: Dataset, out: Path) -> list[str]:
    """Write the dataset as images/<class> and masks/<class>; returns a line for each loss."""

    def layout(sample: Sample, label: str, stem: str, subset: Path) -> tuple[Path, Path | None]:
        (out / subset / "masks").mkdir(parents=True, exist_ok=True)
        return subset / "images" / label / stem, subset / "masks" / label / f"{stem}.png"

    return write_classified(dataset, out, layout)


def _tile_folders(path: Path) -> list[Path]:
    return [folder for folder in list_folders(path) if _TILE.match(folder.name)]


def _read_tile_folder(folder: Path) -> Iterator[Sample]:
    name = folder.name[len("MT_") :].lower()
    label = GOOD if name == "free" else normalize_label(name)
    return _read_photos(list_images(folder, deep=True), folder, label)


def _read_photos(files: Sequence[Path], folder: Path, label: str | None) -> Iterator[Sample]:
    """Photographs with the PNG mask of the same name, if any, beside them."""
    photos = [(file_key(file, folder), file) for file in files if file.suffix.lower() in _PHOTO]
    masks = [(file_key(file, folder), file) for file in files if file.suffix.lower() not in _PHOTO]
    for image, mask in match_files(photos, masks, folder):
        yield Sample(image, label, mask=mask, evidence=LabelEvidence.FOLDER if label else None)


def _has_same_named(path: Path) -> bool:
    photos = (image for image in list_images(path) if image.suffix.lower() in _PHOTO)
    return any(image.with_suffix(".png").is_file() for image in photos)


def _subsets(path: Path) -> Iterator[tuple[str | None, Path, Path]]:
    """(split, folder of images, folder of masks), where both are there."""
    for split, subset in list_subsets(path):
        images, masks = find_folder(subset, IMAGE_FOLDER_NAMES), find_folder(subset, _MASKS)
        if images and masks:
            yield split, images, masks


FORMAT = Format(
    "MT_<class>/Imgs/*.jpg beside same-named *.png; or images/[<class>/]*.png and masks/[<class>/]*.png (none = good)",
    looks_like, read, write, convention=Convention("mask", absent_is_good=True),
    refused="masks of no image, several masks of one name",
)  # fmt: skip
