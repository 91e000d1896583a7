"""A folder of good parts and one of defective parts (good and defect, ok and ng, …), with a folder of masks if any."""

from dataclasses import replace
from pathlib import Path

from blemish.dataset.export import write_classified
from blemish.dataset.formats import mvtec, mvtec_ad2, views
from blemish.dataset.formats.base import Convention, DataSource, Format
from blemish.dataset.image_files import (
    IMAGE_FOLDER_NAMES,
    MASK_NAMES,
    MaskTree,
    find_folder,
    list_folders,
    list_images,
    list_subsets,
)
from blemish.dataset.labels import LabelEvidence, is_defect_name, is_good_name, normalize_label
from blemish.dataset.sample import DEFECT, GOOD, Dataset, Sample


def looks_like(path: Path) -> bool:
    if any(layout.looks_like(path) for layout in (mvtec, mvtec_ad2, views)):
        return False
    products = list_folders(path)
    return _is_product(path) or (len(products) > 1 and all(_is_product(folder) for folder in products))


def read(source: DataSource) -> list[Sample]:
    subsets = any(split for split, _ in list_subsets(source.path))  # which no product is called
    if subsets or _is_product(source.path):
        return _read_product(source.path)
    return [replace(s, product=folder.name) for folder in list_folders(source.path) for s in _read_product(folder)]


def write(dataset: Dataset, out: Path) -> list[str]:
    def layout(sample: Sample, label: str, stem: str, subset: Path) -> tuple[Path, Path | None]:
        if label == GOOD:
            return subset / GOOD / stem, None
        kind = Path() if label == DEFECT else Path(label)
        return subset / DEFECT / kind / stem, subset / "masks" / kind / f"{stem}.png"

    return write_classified(dataset, out, layout)


def _is_product(path: Path) -> bool:
    names = {folder.name for _, subset in list_subsets(path) for folder in list_folders(subset)}
    known = all(is_good_name(n) or is_defect_name(n) or n.lower() in MASK_NAMES for n in names)
    return known and any(is_good_name(n) for n in names)


def _read_product(path: Path) -> list[Sample]:
    samples = []
    for split, subset in list_subsets(path):
        masks = find_folder(subset, MASK_NAMES)
        tree = MaskTree(masks)
        folders = [folder for folder in list_folders(subset) if folder != masks]
        images = [(folder, image) for folder in folders for image in list_images(folder, deep=True)]
        for folder, image in images:
            kind = image.parent.relative_to(folder)  # defect/<class>/…
            if kind.parts and kind.parts[0].lower() in IMAGE_FOLDER_NAMES:
                kind = Path(*kind.parts[1:])
            if is_good_name(folder.name):
                found = tree.find(image, folder.name / kind)
                samples.append(Sample(image, GOOD, split, evidence=LabelEvidence.FOLDER, **found))
            elif is_defect_name(folder.name):
                label = normalize_label(kind.parts[0]) if kind.parts else DEFECT
                found = tree.find(image, folder.name / kind, kind, Path())
                samples.append(Sample(image, label, split, evidence=LabelEvidence.FOLDER, **found))
        tree.warn_unmatched(subset)
    return samples


FORMAT = Format(
    "good/*.png, defect/*.png or defect/<class>/*.png, and masks/<stem>.png where there are masks (also ok/ng, …); "
    "or a folder of such, one a product",
    looks_like, read, write, convention=Convention("mask"),
    refused="masks of no image, several masks of one name",
)  # fmt: skip
