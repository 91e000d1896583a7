"""ELPV, solar cells: labels.csv of path, defect probability and cell type, from a folder or its PyPI package."""

import re
from importlib.util import find_spec
from pathlib import Path

from blemish.dataset.annotations import first_line, read_lines
from blemish.dataset.formats.base import DataSource, Format
from blemish.dataset.image_files import first_existing
from blemish.dataset.labels import LabelEvidence
from blemish.dataset.sample import DEFECT, GOOD, Sample
from blemish.errors import DataError

PACKAGE = "elpv-dataset"
_ROW = re.compile(r"^(\S+)[\s,]+([\d.eE+-]+)[\s,]+(\w+)\s*$")


def looks_like(path: Path) -> bool:
    labels = _labels_file(path)
    return labels is not None and _ROW.match(first_line(labels)) is not None


def package_folder() -> Path:
    """Where the installed package keeps its labels.csv; DataError naming the command that installs it."""
    spec = find_spec("elpv_dataset")  # found, not imported
    if spec is None or spec.origin is None:
        raise DataError(f"the solar cells come with a package of their own; install it with: pip install {PACKAGE}")
    return Path(spec.origin).parent / "data"


def read(source: DataSource) -> list[Sample]:
    """Good at probability 0, defective at 1, those between left out; with a threshold, defective from it on.

    The probability is the share of experts' votes: 0, 1/3, 2/3 or 1. The cell type is the product.
    """
    labels = _labels_file(source.path)
    if labels is None:
        raise DataError(f"no labels.csv in {source.path}")
    threshold = _parse_threshold(source.option)
    samples = []
    for number, line in read_lines(labels):
        row = _ROW.match(line)
        try:
            name, text, product = row.groups() if row else ("", "", "")
            probability = float(text)
        except ValueError:
            raise DataError(f"{labels}, line {number}: expected path, probability and type, not {line!r}") from None
        if threshold is not None or not 0 < probability < 1:
            defective = probability >= (threshold or 1.0)
            samples.append(
                Sample(
                    labels.parent / name,
                    label=DEFECT if defective else GOOD,
                    product=product,
                    evidence=LabelEvidence.COLUMN,
                )
            )
    return samples


def _parse_threshold(text: str) -> float | None:
    if not text:
        return None
    try:
        value = float(text)
    except ValueError:
        value = -1.0
    if not 0 < value <= 1:
        raise DataError(f"elpv:{text} is not understood; write elpv:P with P above 0 up to 1, such as elpv:0.5")
    return value


def _labels_file(path: Path) -> Path | None:
    if path.is_file():
        return path if path.suffix.lower() == ".csv" else None
    return first_existing((path / "labels.csv", path / "src" / "elpv_dataset" / "data" / "labels.csv"))


FORMAT = Format(
    "labels.csv of path, probability, type; `elpv` itself reads the installed package elpv-dataset",
    looks_like, read, has_option=True,
    refused="lines that are not path, probability and type (the whole set is refused)",
)  # fmt: skip
