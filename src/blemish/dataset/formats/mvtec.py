"""The layout of MVTec AD: train/good, test/<type>, ground_truth/<type>/<stem>_mask.*; or a folder of such."""

from collections import defaultdict
from dataclasses import replace
from pathlib import Path

from blemish.dataset.annotations import lone_masks
from blemish.dataset.image_files import (
    MASK_NAMES,
    class_label,
    copy_image,
    copy_mask,
    folders_in,
    has_images,
    images_in,
    is_good_name,
    keep_labelled,
    losses,
    masks_in,
    new_folder,
    split_folders,
    unique_stems,
)
from blemish.dataset.sample import GOOD, Dataset, Sample
from blemish.dataset.split import ensure_splits

SAYS = "train/good, test/<type>, ground_truth/<type>/NNN_mask.png; or a folder of such categories"


def looks_like(path: Path) -> bool:
    folders = folders_in(path)
    return _is_category(path) or (bool(folders) and all(_is_category(folder) for folder in folders))


def read(path: Path) -> list[Sample]:
    if split_folders(path):
        return _read_category(path)
    return [replace(s, product=folder.name) for folder in folders_in(path) for s in _read_category(folder)]


def write(dataset: Dataset, out: Path) -> list[str]:
    """Write the dataset as this layout; returns what could not be kept, a line each."""
    pairs, lost = keep_labelled(dataset.samples)
    if any(s.split is None for s, _ in pairs):
        pairs, _ = keep_labelled(ensure_splits(dataset.with_samples(s for s, _ in pairs)).samples)
        lost.append("the layout needs splits, so the data are split: defects to test")
    samples = [s for s, _ in pairs]
    products = {s.product for s in samples if s.product is not None}
    by_product = len(products) > 1 and all(s.product for s in samples)
    lost += losses(samples, {"label", "split", "mask"} | ({"product"} if by_product else set()))
    new_folder(out, samples, "a label")
    for (sample, label), stem in zip(pairs, unique_stems(samples), strict=True):
        base = out / (sample.product or "") if by_product else out
        copy_image(sample.image, base / str(sample.split) / label / (stem + sample.image.suffix.lower()))
        if label != GOOD:
            copy_mask(sample, base / "ground_truth" / label / f"{stem}_mask.png")
    return lost


def _is_category(path: Path) -> bool:
    splits = split_folders(path)
    if "train" not in splits or "test" not in splits:
        return False
    kinds = [folder.name for folder in folders_in(splits["train"][0])]
    tested = [folder for part in splits["test"] for folder in folders_in(part)]
    if not all(has_images(folder) and folder.name.lower() not in MASK_NAMES for folder in tested):
        return False
    only_good = len(kinds) == 1 and is_good_name(kinds[0])
    return bool(kinds) and (only_good or (path / "ground_truth").is_dir())


def _read_category(path: Path) -> list[Sample]:
    masks = next((folder for folder in folders_in(path) if folder.name.lower() in MASK_NAMES), None)
    samples = []
    of_kind: defaultdict[str, list[Path]] = defaultdict(list)
    for split, folders in split_folders(path).items():
        for kind in (kind for folder in folders for kind in folders_in(folder)):
            label = class_label(kind.name)
            by_stem = masks_in(masks / kind.name) if masks and label != GOOD else {}
            for image in images_in(kind):
                of_kind[kind.name].append(image)
                samples.append(Sample(image, label=label, split=split, mask=by_stem.get(image.stem)))
    for folder in folders_in(masks) if masks else ():
        lone_masks(masks_in(folder), of_kind[folder.name])
    return samples
