"""One folder a class, with or without train, val and test above them."""

from pathlib import Path

from blemish.dataset.formats import kolektor, mvtec
from blemish.dataset.image_files import (
    MASK_NAMES,
    class_label,
    copy_image,
    folders_in,
    has_images,
    images_in,
    is_defect_name,
    is_good_name,
    keep_labelled,
    losses,
    new_folder,
    parts_by_split,
    unique_stems,
)
from blemish.dataset.sample import Dataset, Sample

SAYS = "<class>/*.png, or train/<class>/*.png with val and test beside it"


def looks_like(path: Path) -> bool:
    if mvtec.looks_like(path) or kolektor.looks_like(path):
        return False
    names: set[str] = set()
    for _, part in parts_by_split(path):
        folders = folders_in(part)
        if any(folder.name.lower() in MASK_NAMES for folder in folders):
            return False
        names |= {folder.name for folder in folders if has_images(folder)}
    two_sided = all(is_good_name(name) or is_defect_name(name) for name in names)
    return len(names) > 1 and not two_sided and not any(name.lower() in ("images", "imgs") for name in names)


def read(path: Path) -> list[Sample]:
    return [
        Sample(image, label=class_label(folder.name), split=split)
        for split, part in parts_by_split(path)
        for folder in folders_in(part)
        for image in images_in(folder, deep=True)
    ]


def write(dataset: Dataset, out: Path) -> list[str]:
    """Write the dataset as this layout; returns what could not be kept, a line each."""
    pairs, lost = keep_labelled(dataset.samples)
    samples = [s for s, _ in pairs]
    split = bool(samples) and all(s.split for s in samples)
    lost += losses(samples, {"label", "split"} if split else {"label"})
    new_folder(out, samples, "a label")
    for (sample, label), stem in zip(pairs, unique_stems(samples), strict=True):
        base = out / str(sample.split) if split else out
        copy_image(sample.image, base / label / (stem + sample.image.suffix.lower()))
    return lost
