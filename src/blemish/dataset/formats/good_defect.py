"""A folder of good parts and one of defective parts (good and defect, ok and ng, …), with a folder of masks if any."""

from dataclasses import replace
from pathlib import Path

from blemish.dataset.annotations import lone_masks
from blemish.dataset.formats import mvtec
from blemish.dataset.image_files import (
    MASK_NAMES,
    class_label,
    copy_image,
    copy_mask,
    folders_in,
    images_in,
    is_defect_name,
    is_good_name,
    keep_labelled,
    losses,
    masks_in,
    new_folder,
    parts_by_split,
    unique_stems,
)
from blemish.dataset.sample import GOOD, Dataset, Sample

DEFECT = "defect"
SAYS = (
    "good/*.png, defect/*.png or defect/<class>/*.png, and masks/<stem>.png where there are masks (also ok/ng, …); "
    "or a folder of such, one a product"
)


def looks_like(path: Path) -> bool:
    if mvtec.looks_like(path):
        return False
    products = folders_in(path)
    return _is_product(path) or (len(products) > 1 and all(_is_product(folder) for folder in products))


def _is_product(path: Path) -> bool:
    names = {folder.name for _, part in parts_by_split(path) for folder in folders_in(part)}
    known = all(is_good_name(n) or is_defect_name(n) or n.lower() in MASK_NAMES for n in names)
    return known and any(is_good_name(n) for n in names)


def read(path: Path) -> list[Sample]:
    if _is_product(path):
        return _read_product(path)
    return [replace(s, product=folder.name) for folder in folders_in(path) for s in _read_product(folder)]


def _read_product(path: Path) -> list[Sample]:
    samples = []
    for split, part in parts_by_split(path):
        folders = folders_in(part)
        masks = next((folder for folder in folders if folder.name.lower() in MASK_NAMES), None)
        by_place = {place: masks_in(place) for place in [masks, *masks.rglob("*")] if place.is_dir()} if masks else {}
        for folder in folders:
            if is_good_name(folder.name):
                samples += [Sample(image, label=GOOD, split=split) for image in images_in(folder, deep=True)]
            elif is_defect_name(folder.name):
                for image in images_in(folder, deep=True):
                    inside = image.parent.relative_to(folder)  # defect/<class>/…
                    label = class_label(inside.parts[0]) if inside.parts else DEFECT
                    places = [masks / folder.name / inside, masks / inside, masks] if masks else []
                    mask = next((m for place in places if (m := by_place.get(place, {}).get(image.stem))), None)
                    samples.append(Sample(image, label=label, split=split, mask=mask))
        shown = [image for folder in folders if folder != masks for image in images_in(folder, deep=True)]
        for found in by_place.values():
            lone_masks(found, shown)
    return samples


def write(dataset: Dataset, out: Path) -> list[str]:
    """Write the dataset as this layout; returns what could not be kept, a line each."""
    pairs, lost = keep_labelled(dataset.samples)
    samples = [s for s, _ in pairs]
    split = bool(samples) and all(s.split for s in samples)
    lost += losses(samples, {"label", "mask", "split"} if split else {"label", "mask"})
    new_folder(out, samples, "a label")
    for (sample, label), stem in zip(pairs, unique_stems(samples), strict=True):
        base = out / str(sample.split) if split else out
        inside = Path() if label in (GOOD, DEFECT) else Path(label)
        folder = GOOD if label == GOOD else DEFECT
        copy_image(sample.image, base / folder / inside / (stem + sample.image.suffix.lower()))
        if label != GOOD:
            copy_mask(sample, base / "masks" / inside / f"{stem}.png")
    return lost
