"""One folder a class, with or without train, val and test above them."""

from pathlib import Path

from blemish.dataset.export import write_classified
from blemish.dataset.formats import fiftyone, gc10_det, kolektor, mvtec
from blemish.dataset.formats.base import DataSource, Format
from blemish.dataset.image_files import (
    IMAGE_FOLDER_NAMES,
    MASK_NAMES,
    has_images,
    list_folders,
    list_images,
    list_subsets,
)
from blemish.dataset.labels import LabelEvidence, is_defect_name, is_good_name, normalize_label
from blemish.dataset.sample import Dataset, Sample


def looks_like(path: Path) -> bool:
    if any(layout.looks_like(path) for layout in (mvtec, kolektor, gc10_det, fiftyone)):
        return False
    folders = [folder for _, subset in list_subsets(path) for folder in list_folders(subset)]
    if any(folder.name.lower() in MASK_NAMES for folder in folders):
        return False
    names = {folder.name for folder in folders if has_images(folder)}
    two_sided = all(is_good_name(name) or is_defect_name(name) for name in names)
    return len(names) > 1 and not two_sided and not any(name.lower() in IMAGE_FOLDER_NAMES[:2] for name in names)


def read(source: DataSource) -> list[Sample]:
    return [
        Sample(image, normalize_label(folder.name), split, evidence=LabelEvidence.FOLDER)
        for split, subset in list_subsets(source.path)
        for folder in list_folders(subset)
        for image in list_images(folder, deep=True)
    ]


def write(dataset: Dataset, out: Path) -> list[str]:
    return write_classified(
        dataset, out, lambda sample, label, stem, subset: (subset / label / stem, None), masks=False
    )


FORMAT = Format(
    "<class>/*.png, or train/<class>/*.png with val and test beside it",
    looks_like, read, write, refused="nothing of its own",
)  # fmt: skip
