"""The layout of MVTec AD: train/good, test/<type>, ground_truth/<type>/<stem>_mask.*; or a folder of such.

MVTec LOCO is this as well: several masks an image, in folders of its name, and defects_config.json, which names their
pixel values. Its images keep the class of their folder, and their outlines have that of the pixel value. The areas of
saturation in that file are for a metric of their own, sPRO (see `dataset.saturation`).
"""

from dataclasses import replace
from pathlib import Path

from blemish.dataset.annotations import read_json, warn_skipped
from blemish.dataset.export import write_classified
from blemish.dataset.formats.base import Convention, DataSource, Format
from blemish.dataset.image_files import (
    MASK_NAMES,
    MaskTree,
    find_folder,
    has_images,
    list_folders,
    list_images,
    list_subsets,
)
from blemish.dataset.labels import LabelEvidence, is_good_name, normalize_label
from blemish.dataset.sample import GOOD, Dataset, Sample
from blemish.dataset.split import ensure_splits
from blemish.errors import DataError

_VALUE_NAMES = "defects_config.json"


def looks_like(path: Path) -> bool:
    folders = list_folders(path)
    return _is_category(path) or (bool(folders) and all(_is_category(folder) for folder in folders))


def read(source: DataSource) -> list[Sample]:
    if any(split for split, _ in list_subsets(source.path)):
        return _read_category(source.path)
    return [replace(s, product=folder.name) for folder in list_folders(source.path) for s in _read_category(folder)]


def write(dataset: Dataset, out: Path) -> list[str]:
    """Write the dataset as this layout; returns a line for each loss."""
    lost = []
    labelled = dataset.where(lambda s: s.defective is not None)
    if any(s.split is None for s in labelled.samples):
        unlabelled = dataset.where(lambda s: s.defective is None)
        labelled = ensure_splits(labelled)
        dataset = dataset.with_samples([*labelled.samples, *unlabelled.samples])
        lost.append("the layout needs splits, so the data are split: defects to test")
    products = {s.product for s in labelled.samples}
    by_product = len(products - {None}) > 1 and all(products)

    def layout(sample: Sample, label: str, stem: str, subset: Path) -> tuple[Path, Path | None]:
        product = Path(sample.product or "") if by_product else Path()
        mask = product / "ground_truth" / label / f"{stem}_mask.png"
        return product / subset / label / stem, None if label == GOOD else mask

    return lost + write_classified(dataset, out, layout, {"product"} if by_product else ())


def _is_category(path: Path) -> bool:
    subsets = list_subsets(path)
    training = next((subset for split, subset in subsets if split == "train"), None)
    if training is None or "test" not in {split for split, _ in subsets}:
        return False
    kinds = [folder.name for folder in list_folders(training)]
    tested = [folder for split, subset in subsets if split == "test" for folder in list_folders(subset)]
    if not all(has_images(folder) and folder.name.lower() not in MASK_NAMES for folder in tested):
        return False
    only_good = len(kinds) == 1 and is_good_name(kinds[0])
    return bool(kinds) and (only_good or (path / "ground_truth").is_dir())


def _read_category(path: Path) -> list[Sample]:
    masks = find_folder(path, MASK_NAMES)
    samples = []
    tree = MaskTree(masks, _read_value_names(path / _VALUE_NAMES))
    for split, subset in list_subsets(path):
        for kind in list_folders(subset) if split else ():
            label = normalize_label(kind.name)
            for image in list_images(kind, deep=True):
                folder = image.parent.relative_to(subset)
                found = tree.find(image, subset.name / folder, folder)
                samples.append(Sample(image, label, split, evidence=LabelEvidence.FOLDER, **found))
    tree.warn_unmatched(path)
    return samples


def _read_value_names(file: Path) -> dict[int, str]:
    """Names of the pixel values of masks; none where there is no such file, or it is not understood."""
    if not file.is_file():
        return {}
    try:
        content = read_json(file)
        if not isinstance(content, list):
            raise ValueError("it is no list")
        rows = [(int(row["pixel_value"]), str(row["defect_name"]).strip()) for row in content]
    except (KeyError, TypeError, ValueError, OverflowError, AttributeError, DataError) as error:
        warn_skipped(f"{file}: it does not name pixel values: {' '.join(str(error).split())}")
        return {}
    names = dict(rows)
    if len(names) < len(rows) or not all(names.values()) or 0 in names:
        warn_skipped(f"{file}: it names a pixel value twice, or 0, or without a name")
        return {}
    return names


FORMAT = Format(
    "train/good, test/<type>, ground_truth/<type>/NNN_mask.png; or a folder of such categories",
    looks_like, read, write, convention=Convention("mask"),
    refused="masks of no image, several masks of one name, pixel values that defects_config.json does not name",
)  # fmt: skip
