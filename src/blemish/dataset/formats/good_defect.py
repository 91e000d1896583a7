"""A folder of good parts and one of defective parts (good and defect, ok and ng, …), with a folder of masks if any."""

from dataclasses import replace
from pathlib import Path

from blemish.dataset.export import write_classified
from blemish.dataset.formats import mvtec
from blemish.dataset.formats.base import DataSource, Format
from blemish.dataset.image_files import (
    MASK_NAMES,
    MaskTree,
    find_folder,
    is_defect_name,
    is_good_name,
    list_folders,
    list_images,
    list_subsets,
    normalize_label,
)
from blemish.dataset.sample import DEFECT, GOOD, Dataset, Sample


def looks_like(path: Path) -> bool:
    if mvtec.looks_like(path):
        return False
    products = list_folders(path)
    return _is_product(path) or (len(products) > 1 and all(_is_product(folder) for folder in products))


def read(source: DataSource) -> list[Sample]:
    if _is_product(source.path):
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
            if is_good_name(folder.name):
                samples.append(Sample(image, label=GOOD, split=split))
            elif is_defect_name(folder.name):
                kind = image.parent.relative_to(folder)  # defect/<class>/…
                label = normalize_label(kind.parts[0]) if kind.parts else DEFECT
                mask = tree.find(image.stem, folder.name / kind, kind, Path())
                samples.append(Sample(image, label=label, split=split, mask=mask))
        tree.warn_unmatched([image for _, image in images])
    return samples


FORMAT = Format(
    "good/*.png, defect/*.png or defect/<class>/*.png, and masks/<stem>.png where there are masks (also ok/ng, …); "
    "or a folder of such, one a product",
    looks_like, read, write,
)  # fmt: skip
