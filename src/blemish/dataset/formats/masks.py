"""Images with masks of the same name: MT_<class>/Imgs/*.jpg beside *.png (magnetic tile), or images/ and masks/."""

import re
from pathlib import Path

from blemish.dataset.annotations import left_out, lone_masks
from blemish.dataset.formats import class_masks, yolo
from blemish.dataset.image_files import (
    class_label,
    copy_image,
    copy_mask,
    folders_in,
    images_in,
    keep_labelled,
    losses,
    masks_in,
    new_folder,
    parts_by_split,
    unique_stems,
)
from blemish.dataset.sample import GOOD, Dataset, Sample
from blemish.errors import DataError, ImageError
from blemish.imaging.read import read_mask

SAYS = (
    "MT_<class>/Imgs/*.jpg beside same-named *.png; or images/[<class>/]*.png and masks/[<class>/]*.png (none = good)"
)
_TILE = re.compile(r"^MT_(\w+)$", re.IGNORECASE)
_IMAGES = ("images", "imgs", "image", "img")
_MASKS = ("masks", "mask", "ground_truth", "gt", "labels", "label")
_PHOTO = (".jpg", ".jpeg", ".bmp", ".tif", ".tiff")


def looks_like(path: Path) -> bool:
    if _tile_folders(path):
        return True
    if class_masks.looks_like(path) or yolo.looks_like(path):
        return False
    return any(_has_masks(part) for _, part in parts_by_split(path)) or _has_same_named(path)


def read(path: Path) -> list[Sample]:
    if _tile_folders(path):
        return _read_tiles(path)
    if _has_same_named(path):
        return _read_same_named(path)
    return [sample for split, part in parts_by_split(path) for sample in _read_pair(part, split)]


def write(dataset: Dataset, out: Path) -> list[str]:
    """Write the dataset as images/<class> and masks/<class>; returns what could not be kept, a line each."""
    pairs, lost = keep_labelled(dataset.samples)
    samples = [s for s, _ in pairs]
    split = bool(samples) and all(s.split for s in samples)
    lost += losses(samples, {"label", "mask", "split"} if split else {"label", "mask"})
    new_folder(out, samples, "a label")
    for (sample, label), stem in zip(pairs, unique_stems(samples), strict=True):
        base = out / str(sample.split) if split else out
        copy_image(sample.image, base / "images" / label / (stem + sample.image.suffix.lower()))
        (base / "masks").mkdir(exist_ok=True)
        copy_mask(sample, base / "masks" / label / f"{stem}.png")
    return lost


def _tile_folders(path: Path) -> list[Path]:
    return [folder for folder in folders_in(path) if _TILE.match(folder.name)]


def _read_tiles(path: Path) -> list[Sample]:
    samples = []
    for folder in _tile_folders(path):
        name = folder.name[len("MT_") :].lower()
        label = GOOD if name == "free" else class_label(name)
        for image in images_in(folder, deep=True):
            if image.suffix.lower() in _PHOTO:
                mask = image.with_suffix(".png")
                samples.append(Sample(image, label=label, mask=mask if mask.is_file() else None))
            elif not _has_photo(image):
                left_out(f"{image}: its image does not exist")
    return samples


def _pair(part: Path) -> tuple[Path, Path] | None:
    """The folder of images and the folder of masks, where both are there."""
    by_name = {folder.name.lower(): folder for folder in folders_in(part)}
    images = next((by_name[name] for name in _IMAGES if name in by_name), None)
    masks = next((by_name[name] for name in _MASKS if name in by_name), None)
    return (images, masks) if images and masks else None


def _has_masks(part: Path) -> bool:
    """Whether there is any mask: without one, labels of another kind would make every image a good one."""
    pair = _pair(part)
    return pair is not None and bool(images_in(pair[1], deep=True))


def _read_pair(part: Path, split: str | None) -> list[Sample]:
    pair = _pair(part)
    if pair is None:
        return []
    images, masks = pair
    samples = []
    by_place = {place: masks_in(place) for place in [masks, *masks.rglob("*")] if place.is_dir()}
    for image in images_in(images, deep=True):
        inside = image.parent.relative_to(images)
        mask = by_place.get(masks / inside, {}).get(image.stem)
        label = class_label(inside.parts[0]) if inside.parts else _label_of(mask)
        samples.append(Sample(image, label=label, split=split, mask=mask))
    for place, found in by_place.items():
        lone_masks(found, images_in(images / place.relative_to(masks)))
    return samples


def _has_same_named(path: Path) -> bool:
    """Photographs and PNG masks of the same names, all in one folder."""
    photographs = [image for image in images_in(path) if image.suffix.lower() in _PHOTO]
    return bool(photographs) and any(image.with_suffix(".png").is_file() for image in photographs)


def _read_same_named(path: Path) -> list[Sample]:
    samples = []
    for image in images_in(path):
        if image.suffix.lower() in _PHOTO:
            mask = image.with_suffix(".png") if image.with_suffix(".png").is_file() else None
            samples.append(Sample(image, label=_label_of(mask), mask=mask))
        elif not _has_photo(image):
            left_out(f"{image}: its image does not exist")
    return samples


def _has_photo(mask: Path) -> bool:
    return any(mask.with_suffix(suffix).is_file() for suffix in _PHOTO)


def _label_of(mask: Path | None) -> str:
    if mask is None:
        return GOOD
    try:
        return "defect" if read_mask(mask).any() else GOOD
    except ImageError as error:
        raise DataError(f"the label follows from the mask, but: {error}") from error
