"""A data set of drawn defects on good surfaces, whose geometry is known: for the demo and for testing measures."""

import csv
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from blemish.dataset.read import read_dataset
from blemish.dataset.sample import GOOD, Dataset
from blemish.errors import DataError
from blemish.imaging.read import write_image
from blemish.synthesis.drawing import SHAPES, shade
from blemish.synthesis.surfaces import check_surfaces, surface

PX_PER_MM = 10.0
CONTRAST = (0.25, 0.7)  # from hard to see to plain
TRUTH = ("image", "class", "length_px", "width_px", "area_px", "length_mm", "width_mm", "area_mm2", "contrast")


@dataclass(frozen=True)
class Counts:
    train: int = 60
    test_good: int = 20
    defects: int = 8  # of each class


def write_synthetic(
    out: str | Path,
    surfaces: tuple[str, ...] = ("metal",),
    counts: Counts = Counts(),
    size: int = 256,
    seed: int = 0,
) -> Dataset:
    """Write images in the MVTec layout, one folder a surface where there are several, and `truth.csv` beside them.

    The same seed writes the same files. Raises DataError where `out` already holds something.
    """
    out = Path(out)
    if out.exists() and any(out.iterdir()):
        raise DataError(f"'{out}' is not empty; choose a new folder, so that nothing is mixed or overwritten")
    check_surfaces(surfaces)
    rows: list[list[str]] = []
    for number, name in enumerate(surfaces):
        rng = np.random.default_rng([seed, number])
        folder = out / name if len(surfaces) > 1 else out
        for split, count in (("train", counts.train), ("test", counts.test_good)):
            for i in range(count):
                _write(folder / split / GOOD / f"{i:03}.png", surface(name, rng, size))
        for kind in SHAPES:
            for i in range(counts.defects):
                rows.append(_write_defect(out, folder, name, kind, i, rng, size))
    with (out / "truth.csv").open("w", encoding="utf-8", newline="") as stream:
        csv.writer(stream).writerows([TRUTH, *rows])
    return read_dataset(out, "mvtec")


def _write_defect(
    out: Path, folder: Path, name: str, kind: str, number: int, rng: np.random.Generator, size: int
) -> list[str]:
    drawn = SHAPES[kind](rng, size)
    contrast = float(rng.uniform(*CONTRAST))
    path = folder / "test" / kind / f"{number:03}.png"
    _write(path, shade(kind, surface(name, rng, size), drawn, contrast, rng))
    mask_path = folder / "ground_truth" / kind / f"{number:03}_mask.png"
    mask_path.parent.mkdir(parents=True, exist_ok=True)
    write_image(mask_path, drawn.mask.astype(np.uint8)[..., None] * 255)
    area = float(drawn.mask.sum())
    lengths = [drawn.length, drawn.width, area, drawn.length / PX_PER_MM, drawn.width / PX_PER_MM, area / PX_PER_MM**2]
    return [path.relative_to(out).as_posix(), kind, *(f"{value:.4f}" for value in lengths), f"{contrast:.3f}"]


def _write(path: Path, picture: NDArray[np.float32]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    write_image(path, np.round(picture * 255).astype(np.uint8)[..., None])
