"""The readings of a gauge study, from a CSV file: which part, by which appraiser, which repeat, and the result."""

import csv
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from blemish.errors import DataError, unknown

COLUMNS = ("part", "appraiser", "repeat", "value", "verdict", "reference")


@dataclass(frozen=True)
class GaugeStudy:
    """A balanced study: every appraiser rates or measures every part equally often.

    `results` is (P, A, R): numbers, or verdicts as text. `reference` (P,) is of the same kind; None where not known.
    """

    parts: list[str]
    appraisers: list[str]
    results: NDArray[Any]
    reference: NDArray[Any] | None

    @property
    def attribute(self) -> bool:
        """Whether the results are verdicts."""
        return bool(self.results.dtype.kind == "U")


def read_study(path: Path) -> GaugeStudy:
    """Read a study with the columns part, value or verdict, and perhaps appraiser, repeat and reference.

    Without `appraiser` there is one; without `repeat` rows of one part and appraiser are repeats in their order. Raises
    DataError for an unknown column, an empty or doubled cell, a value that is no number, and a study that is not
    balanced.
    """
    rows = _read_rows(path)
    kind = _result_column(path, rows)
    cells: dict[tuple[str, str], dict[str, str]] = {}
    references: dict[str, str] = {}
    for number, row in enumerate(rows, 2):
        where = f"{path}, line {number}"
        part, appraiser = row.get("part", ""), row.get("appraiser", "1") if "appraiser" in row else "1"
        if not part or not appraiser or not row[kind]:
            raise DataError(f"{where}: part, appraiser and {kind} must not be empty")
        own = cells.setdefault((part, appraiser), {})
        repeat = row.get("repeat") or str(len(own) + 1)
        if repeat in own:
            raise DataError(f"{where}: part {part}, appraiser {appraiser}, repeat {repeat} occurs twice")
        own[repeat] = row[kind] if kind == "verdict" else str(_number(row[kind], where, kind))
        reference = row.get("reference", "")
        if references.setdefault(part, reference) != reference:
            raise DataError(f"{where}: part {part} has two references, '{references[part]}' and '{reference}'")
    parts, appraisers = (list(dict.fromkeys(key[i] for key in cells)) for i in (0, 1))
    repeats = _check_balance(path, cells, parts, appraisers)
    dtype: Any = np.str_ if kind == "verdict" else np.float64
    results = np.array([[[cells[part, one][r] for r in repeats] for one in appraisers] for part in parts]).astype(dtype)
    known = [references[part] for part in parts]
    if any(known) and not all(known):
        raise DataError(f"{path}: part {parts[known.index('')]} has no reference, others have; give all or none")
    if kind == "value":
        known = [str(_number(text, str(path), "reference")) for text in known if text]
    return GaugeStudy(parts, appraisers, results, np.array(known).astype(dtype) if any(known) else None)


def _read_rows(path: Path) -> list[dict[str, str]]:
    try:
        with path.open(encoding="utf-8-sig", newline="") as stream:
            reader = csv.DictReader(stream)
            names = [name.strip().lower() for name in reader.fieldnames or ()]
            rows = [[(cell or "").strip() for cell in row.values() if not isinstance(cell, list)] for row in reader]
    except OSError as error:
        raise DataError(f"{path} cannot be read: {error.strerror}") from error
    except (UnicodeDecodeError, csv.Error) as error:
        raise DataError(f"{path} is no CSV file in UTF-8: {error}") from error
    for name in names:
        if name not in COLUMNS:
            raise DataError(f"{path}: {unknown('column', name, COLUMNS)}")
    if "part" not in names or not rows:
        raise DataError(f"{path}: a study has a header with part and value or verdict, and rows below it")
    return [dict(zip(names, row, strict=True)) for row in rows if any(row)]


def _result_column(path: Path, rows: list[dict[str, str]]) -> str:
    kinds = [name for name in ("value", "verdict") if name in rows[0]]
    if len(kinds) != 1:
        raise DataError(
            f"{path}: a study has either a column value or a column verdict, not {' and '.join(kinds) or 'none'}"
        )
    return kinds[0]


def _number(text: str, where: str, column: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not math.isfinite(value):
        raise DataError(f"{where}: {column} '{text}' is no number")
    return value


def _check_balance(
    path: Path, cells: dict[tuple[str, str], dict[str, str]], parts: list[str], appraisers: list[str]
) -> list[str]:
    """The repeats that all have; raises DataError for the first part and appraiser that have others."""
    repeats = sorted(next(iter(cells.values())), key=lambda name: (len(name), name))
    for part in parts:
        for appraiser in appraisers:
            own = cells.get((part, appraiser), {})
            if own.keys() != set(repeats):
                raise DataError(
                    f"{path}: part {part} has the repeats {', '.join(own) or 'none'} of appraiser {appraiser}, the "
                    f"first part has {', '.join(repeats)}; the study must be balanced"
                )
    return repeats
