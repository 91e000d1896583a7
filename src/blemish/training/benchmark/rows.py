"""The rows of a benchmark: one measurement each, a JSON line, with the version of the protocol it was made by.

Protocol 2 (docs/benchmarks.md says why each of these):

- test images are the same for every method and seed; a part never has images on two sides of a split;
- the images that tune a training (best epoch, temperature) never choose its thresholds;
- no default was chosen by the test images of a set that is reported;
- ranking metrics are stated with the escapes at 1 % and 5 % false alarms;
- the file that ships is what is measured.
"""

import json
import logging
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from blemish.errors import OptionError
from blemish.files import write_atomic

log = logging.getLogger(__name__)
PROTOCOL = 2
# Name in a row -> its place in `Evaluation.to_dict()`.
METRIC_PATHS = {
    "image AUROC": "image.auroc",
    "image AP": "image.ap",
    "image F1-max": "image.best_f1",
    "escape at 1 %": "image.escape_at_1_percent",
    "escape at 5 %": "image.escape_at_5_percent",
    "pixel AUROC": "pixel.auroc",
    "pixel AP": "pixel.ap",
    "pixel F1-max": "pixel.best_f1",
    "AUPRO": "pixel.aupro",
    "AUPRO 0.05": "pixel.aupro_at_5_percent",
    "sPRO 0.05": "pixel.spro_at_5_percent",
    "AUPIMO": "pixel.aupimo",
    "region IoU": "masks.iou",
    "defects found": "masks.defects_found",
    "length error": "geometry.length.error",
    "width error": "geometry.mean_width.error",
    "area error": "geometry.area.error",
    "mIoU": "masks.miou",
    "mAP50": "boxes.map50",
    "mAP": "boxes.map",
    "mAP75": "boxes.map75",
    "accuracy": "classes.accuracy",
    "balanced accuracy": "classes.balanced_accuracy",
    "macro F1": "classes.macro_f1",
    "ECE": "classes.ece",
    "escape": "image.escape_rate",
    "overkill": "image.overkill_rate",
    "review": "image.review_rate",
}


@dataclass(frozen=True)
class BenchmarkRow:
    """One training of a method on a set, and the metrics of its bundle on the set's test images."""

    protocol: int
    blemish: str  # version
    set: str
    unified: bool  # trained on all sets together, evaluated on this one
    method: str
    preset: str
    options: dict[str, Any]  # of the method beyond the preset, and of the training, where they are not the defaults
    seed: int
    calibration: str
    images: dict[str, int]  # train, tuning, val; good and defective ones of test
    test_sha256: str  # of the list of test images
    predictions: str  # name of the file of predictions, below OUT/images/SET
    metrics: dict[str, float]
    intervals: dict[str, list[float]] = field(default_factory=dict)  # low and high end, 95 %
    types: dict[str, dict[str, float]] = field(default_factory=dict)  # metrics by defect type
    cost: dict[str, Any] = field(default_factory=dict)  # times, size, machine

    @property
    def variant(self) -> str:
        """The method with its preset and options, where they are not the defaults."""
        return describe_variant(self.method, self.words)

    @property
    def words(self) -> list[str]:
        """Whatever of the preset, the training and the options is not the default."""
        return list_words(self.preset, self.unified, self.options)

    @property
    def key(self) -> tuple[str, str, int]:
        """What one row is of; a benchmark measures it once."""
        return self.set, self.variant, self.seed


def list_words(preset: str, unified: bool, options: Mapping[str, Any]) -> list[str]:
    """Whatever of the preset, the training and the options is not the default."""
    words = ["paper"] * (preset == "paper") + ["unified"] * unified
    return words + [f"{key}={value}" for key, value in options.items()]


def describe_variant(method: str, words: Sequence[str]) -> str:
    """The method with whatever is not the default."""
    return method + (f" ({', '.join(words)})" if words else "")


def flatten_metrics(evaluated: Mapping[str, Any]) -> tuple[dict[str, float], dict[str, list[float]]]:
    """Metrics by their names in a row, and the intervals of those that have one, from `Evaluation.to_dict()`."""
    metrics, intervals = {}, {}
    for name, path in METRIC_PATHS.items():
        value: Any = evaluated
        for step in path.split("."):
            value = value.get(step) if isinstance(value, Mapping) else None
        if isinstance(value, Mapping):
            intervals[name] = [float(value["low"]), float(value["high"])]
            value = value["value"]
        if value is not None:
            metrics[name] = float(value)
    return metrics, intervals


def read_rows(path: Path) -> list[BenchmarkRow]:
    """The rows of a file; none where it does not exist. A last line that was cut off is left out, with a warning.

    Of rows of the same training, as in files put together, the last one counts, with a warning.

    Raises OptionError for rows of another protocol, which cannot be compared, and for a file of something else.
    """
    if not path.is_file():
        return []
    lines = path.read_text(encoding="utf-8").split("\n")
    if lines[-1]:
        log.warning(f"'{path}': the last line was cut off and is left out")
    rows: dict[tuple[str, str, int], BenchmarkRow] = {}
    for number, line in enumerate(lines[:-1], 1):
        try:
            data = json.loads(line)
            protocol = data["protocol"]
        except (ValueError, KeyError, TypeError) as error:
            raise OptionError(f"'{path}', line {number}: no row of a benchmark") from error
        if protocol != PROTOCOL:
            raise OptionError(
                f"'{path}', line {number}: measured by protocol {protocol}, this version measures by {PROTOCOL}; rows "
                "of two protocols are not comparable: choose another folder"
            )
        try:
            row = BenchmarkRow(**data)
        except TypeError as error:
            raise OptionError(f"'{path}', line {number}: no row of a benchmark") from error
        if row.key in rows:
            log.warning(
                f"'{path}', line {number}: a second row of {row.set}, {row.variant}, seed {row.seed}; it counts"
            )
        rows[row.key] = row
    return list(rows.values())


def write_rows(path: Path, rows: Iterable[BenchmarkRow]) -> None:
    """Write all rows, each a line, in place of the file."""
    text = "".join(json.dumps(asdict(row), ensure_ascii=False) + "\n" for row in rows)
    write_atomic(path, text)
