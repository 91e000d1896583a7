"""A data set of synthetic defects on good surfaces, whose geometry is known: for the demo and to test measurements."""

import csv
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from blemish.arrays import GreyImage, Mask
from blemish.dataset.read import read_dataset
from blemish.dataset.sample import GOOD, Dataset
from blemish.errors import DataError
from blemish.imaging.read import write_image
from blemish.synthesis.exact_shapes import EXACT_SHAPES, shade
from blemish.synthesis.surfaces import check_surfaces, render_surface

PX_PER_MM = 10.0
CONTRAST = (0.25, 0.7)  # from barely visible to obvious
COLUMNS = ("image", "class", "length_px", "width_px", "area_px", "length_mm", "width_mm", "area_mm2", "contrast")


@dataclass(frozen=True)
class SetSize:
    """Images of each surface: good ones to train on, good ones to test on, defective test images of each class."""

    train: int = 60
    test_good: int = 20
    defects: int = 8


def write_synthetic(
    out: str | Path,
    surfaces: tuple[str, ...] = ("metal",),
    counts: SetSize = SetSize(),
    size: int = 256,
    seed: int = 0,
) -> Dataset:
    """Write images in the MVTec layout, a folder for each surface, and their geometry in `ground_truth.csv`.

    The same seed writes the same files. Raises DataError where `out` already holds something.
    """
    out = check_new_folder(out)
    check_surfaces(surfaces)
    rows: list[list[str]] = []
    for number, name in enumerate(surfaces):
        rng = np.random.default_rng([seed, number])
        folder = out / name if len(surfaces) > 1 else out
        for split, count in (("train", counts.train), ("test", counts.test_good)):
            for i in range(count):
                _write_grey(folder / split / GOOD / f"{i:03}.png", render_surface(name, rng, size))
        for kind in EXACT_SHAPES:
            for i in range(counts.defects):
                rows.append(_write_defect(out, folder, name, kind, i, rng, size))
    with (out / "ground_truth.csv").open("w", encoding="utf-8", newline="") as stream:
        csv.writer(stream).writerows([COLUMNS, *rows])
    return read_dataset(out, "mvtec")


def check_new_folder(out: str | Path) -> Path:
    """The path of a folder that is empty or not there yet; DataError for any other."""
    out = Path(out)
    if out.exists() and not out.is_dir():
        raise DataError(f"'{out}' is a file; name a folder to write to")
    if out.exists() and any(out.iterdir()):
        raise DataError(f"'{out}' is not empty; choose a new folder, so that nothing is mixed or overwritten")
    return out


def _write_defect(
    out: Path, folder: Path, name: str, kind: str, number: int, rng: np.random.Generator, size: int
) -> list[str]:
    """Write one defective image with its mask; its row of `ground_truth.csv`."""
    shape = EXACT_SHAPES[kind](rng, size)
    contrast = float(rng.uniform(*CONTRAST))
    path = folder / "test" / kind / f"{number:03}.png"
    _write_grey(path, shade(kind, render_surface(name, rng, size), shape, contrast, rng))
    _write_grey(folder / "ground_truth" / kind / f"{number:03}_mask.png", shape.mask)
    area = float(shape.mask.sum())
    lengths = [shape.length, shape.width, area, shape.length / PX_PER_MM, shape.width / PX_PER_MM, area / PX_PER_MM**2]
    return [path.relative_to(out).as_posix(), kind, *(f"{value:.4f}" for value in lengths), f"{contrast:.3f}"]


def _write_grey(path: Path, image: GreyImage | Mask) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    write_image(path, np.round(image * 255).astype(np.uint8)[..., None])
