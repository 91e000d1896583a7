"""The layout of Severstal steel: train.csv of ImageId, ClassId, EncodedPixels, and train_images/."""

import csv
import io
from collections import defaultdict
from pathlib import Path

import numpy as np

from blemish.dataset.annotations import known, left_out, read_text
from blemish.dataset.ground_truth import class_masks, has_mask, label_from
from blemish.dataset.image_files import class_label, copy_image, images_in, losses, new_folder, unique_stems
from blemish.dataset.sample import GOOD, Dataset, Sample
from blemish.errors import DataError, ImageError
from blemish.geometry import Rle, Shape, decode_runs, encode_mask
from blemish.imaging.read import image_header

SAYS = "train.csv of ImageId, ClassId, EncodedPixels (or ImageId_ClassId, EncodedPixels), and train_images/"
_COLUMNS = ("ImageId", "ClassId", "EncodedPixels")


def looks_like(path: Path) -> bool:
    file = _csv_of(path)
    if file is None:
        return False
    with file.open(encoding="utf-8-sig", errors="replace") as lines:
        head = lines.readline(1000)
    return "EncodedPixels" in head and "ImageId" in head


def read(path: Path) -> list[Sample]:
    """Samples with a mask of run lengths for each row; images without a row, or with an empty one, are good.

    Left out with a warning: rows of images that do not exist, and run lengths that do not fit their image.
    """
    file = _csv_of(path)
    if file is None:
        raise DataError(f"{path} holds no train.csv")
    images = {image.name: image for image in _images(file.parent)}
    csv.field_size_limit(1 << 30)
    runs: defaultdict[str, list[tuple[str, str]]] = defaultdict(list)
    try:
        rows = list(csv.DictReader(io.StringIO(read_text(file), newline="")))
    except csv.Error as error:
        raise DataError(f"{file} is not readable as CSV: {error}") from error
    for row in rows:
        name, kind = row.get("ImageId"), row.get("ClassId")
        if name is None or kind is None:
            name, _, kind = (row.get("ImageId_ClassId") or "").rpartition("_")
        if name not in images:
            left_out(f"{file}: image {name or '(none)'} does not exist")
        elif (row.get("EncodedPixels") or "").strip():
            runs[name].append((class_label(kind), row["EncodedPixels"]))
    return [Sample(image, **known((), _shapes(file, image, runs[name]))) for name, image in images.items()]


def write(dataset: Dataset, out: Path) -> list[str]:
    """Write masks as run lengths, one row an image and class; returns what could not be kept, a line each."""
    samples = [s for s in dataset.samples if has_mask(s)]
    lost = losses(samples, {"mask", "shapes", "label"})
    if len(samples) < len(dataset):
        lost.append(f"{len(dataset) - len(samples)} images whose defect pixels are not known are left out")
    if any(not (isinstance(shape, Rle) and shape.many) for s in samples for shape in s.shapes or ()):
        lost.append("defects of one class in one image become one mask")
    classes = [name for name in dataset.classes if name != GOOD]
    new_folder(out, samples, "a mask or outlines")
    unlike = 0
    (out / "train_images").mkdir()
    with (out / "train.csv").open("w", encoding="utf-8", newline="") as file:
        rows = csv.writer(file, lineterminator="\n")
        rows.writerow(_COLUMNS)
        for sample, stem in zip(samples, unique_stems(samples), strict=True):
            name = stem + sample.image.suffix.lower()
            copy_image(sample.image, out / "train_images" / name)
            header = image_header(sample.image)
            layers = class_masks(sample, classes, (header.height, header.width))
            told = label_from(label for label, layer in zip(classes, layers, strict=True) if layer.any())
            unlike += told != sample.label
            for label, layer in zip(classes, layers, strict=True):
                if layer.any():
                    rows.writerow([name, label, _text(encode_mask(layer, label))])
    if unlike:
        lost.append(f"label of {unlike} images is not kept: it does not follow from their masks")
    return lost


def _csv_of(path: Path) -> Path | None:
    file = path / "train.csv" if path.is_dir() else path
    return file if file.is_file() and file.suffix.lower() == ".csv" else None


def _images(root: Path) -> list[Path]:
    folder = root / "train_images"
    return images_in(folder if folder.is_dir() else root)


def _shapes(file: Path, image: Path, runs: list[tuple[str, str]]) -> list[Shape]:
    found: list[Shape] = []
    for label, text in runs:
        try:
            header = image_header(image)
            found.append(_runs(text, (header.height, header.width), label))
        except (ValueError, OverflowError, DataError, ImageError) as error:
            left_out(f"{file}: {image.name}, class {label}: {error}", image)
    return found


def _runs(text: str, size: tuple[int, int], label: str) -> Rle:
    """Pairs of a start, from 1 on, and a length, down the columns."""
    pairs = np.array([int(word) for word in text.split()], np.int64)
    if len(pairs) % 2:
        raise ValueError("run lengths are pairs of start and length; there is an odd number")
    starts, lengths = pairs[::2] - 1, pairs[1::2]
    ends = starts + lengths
    if (lengths < 0).any() or (starts < np.concatenate([[0], ends[:-1]])).any() or ends[-1] > size[0] * size[1]:
        raise ValueError(f"run lengths do not fit an image of {size[1]}×{size[0]}")
    edges = np.stack([starts, ends], axis=1).ravel()
    counts = np.diff(edges, prepend=0, append=size[0] * size[1])
    return encode_mask(decode_runs(tuple(counts.tolist()), size), label, many=True)


def _text(runs: Rle) -> str:
    ends = np.cumsum(runs.counts)
    pairs = ((int(ends[i - 1]) + 1, runs.counts[i]) for i in range(1, len(ends), 2))
    return " ".join(f"{start} {length}" for start, length in pairs)
