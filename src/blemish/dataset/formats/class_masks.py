"""Images with masks of several classes: pixel value k is the class of line k of classes.txt, 0 is good."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np

from blemish.dataset.annotations import all_split, left_out, lone_masks, read_text
from blemish.dataset.ground_truth import class_masks, has_mask, label_from, read_class_mask
from blemish.dataset.image_files import (
    class_label,
    copy_image,
    first_existing,
    has_images,
    images_in,
    losses,
    masks_in,
    new_folder,
    parts_by_split,
    unique_stems,
)
from blemish.dataset.sample import Dataset, Sample
from blemish.errors import DataError
from blemish.geometry import Rle
from blemish.imaging.read import image_header, write_image

SAYS = "images/*.png with masks/*.png whose pixel value k is line k of classes.txt (0 is good), split folders above"
MOST = 255
_MASKS = ("masks", "labels", "annotations")


def looks_like(path: Path) -> bool:
    return path.is_dir() and _names_file(path) is not None and any(True for _ in _places(path))


def read(path: Path) -> list[Sample]:
    """Samples with class masks, grey or with a palette; the label is that of the mask's only class, or good.

    Without classes.txt, classes are called by their pixel value. An image without a mask is of unknown truth. Pixel
    values without a name count as good beside others that have one, and are named in a warning; an image with nothing
    else is of unknown truth.
    """
    file = _names_file(path)
    listed = tuple(class_label(line) for line in read_text(file).splitlines() if line.strip()) if file else ()
    samples = []
    for split, images, masks in _places(path):
        by_place = {place: masks_in(place) for place in [masks, *masks.rglob("*")] if place.is_dir()}
        for image in images_in(images, deep=True):
            mask = by_place.get(masks / image.parent.relative_to(images), {}).get(image.stem)
            if mask is None:
                samples.append(Sample(image, split=split))
                continue
            values = np.unique(read_class_mask(mask))
            values = values[values > 0].tolist()
            names = listed or tuple(str(v) for v in range(1, max(values, default=0) + 1))
            unknown = [v for v in values if v > len(names)]
            if unknown:
                left_out(f"{mask}: pixel values without a name: {', '.join(str(v) for v in unknown[:5])}", image)
            label = label_from(names[v - 1] for v in values if v <= len(names))
            samples.append(Sample(image, label=label, split=split, mask=mask, mask_classes=names))
        for place, found in by_place.items():
            lone_masks(found, images_in(images / place.relative_to(masks)))
    if not listed:
        longest = max((s.mask_classes or () for s in samples), key=len, default=())
        samples = [s if s.mask is None else _named(s, longest) for s in samples]
    return samples


def write(dataset: Dataset, out: Path) -> list[str]:
    """Write masks of all classes; where classes overlap, the later one wins. Returns what could not be kept."""
    samples = [s for s in dataset.samples if has_mask(s)]
    classes = dataset.defect_classes
    if len(classes) > MOST:
        raise DataError(f"a mask of bytes holds {MOST} classes; there are {len(classes)}")
    split = all_split(samples)
    lost = losses(samples, {"mask", "shapes", "label", *({"split"} if split else ())})
    if len(samples) < len(dataset):
        lost.append(f"{len(dataset) - len(samples)} images whose defect pixels are not known are left out")
    if any(not (isinstance(shape, Rle) and shape.many) for s in samples for shape in s.shapes or ()):
        lost.append("defects of one class that touch become one")
    new_folder(out, samples, "a mask or outlines")
    (out / "classes.txt").write_text("".join(f"{name}\n" for name in classes), encoding="utf-8")
    overlaps = unlike = 0
    for sample, stem in zip(samples, unique_stems(samples), strict=True):
        inside = Path(str(sample.split)) if split else Path()
        header = image_header(sample.image)
        layers = class_masks(sample, classes, (header.height, header.width))
        values = np.zeros((header.height, header.width), np.uint8)
        for number, layer in enumerate(layers, 1):
            values[layer] = number
        overlaps += bool((layers.sum(axis=0) > 1).any())
        unlike += label_from(classes[v - 1] for v in np.unique(values).tolist() if v) != sample.label
        copy_image(sample.image, out / inside / "images" / (stem + sample.image.suffix.lower()))
        write_image(out / inside / "masks" / f"{stem}.png", values)
    if overlaps:
        lost.append(f"classes overlap in {overlaps} images: the later one wins")
    if unlike:
        lost.append(f"label of {unlike} images is not kept: it does not follow from their masks")
    return lost


def _named(sample: Sample, names: tuple[str, ...]) -> Sample:
    return Sample(sample.image, sample.label, sample.split, sample.mask, names)


def _names_file(path: Path) -> Path | None:
    return first_existing([path / "classes.txt", path / "labels.txt"])


def _places(path: Path) -> Iterator[tuple[str | None, Path, Path]]:
    for split, part in parts_by_split(path):
        for name in _MASKS:
            if (part / "images").is_dir() and has_images(part / name):
                yield split, part / "images", part / name
                break
