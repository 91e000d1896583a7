"""Masks of whole defects and their measurements, against known annotations: a table of docs/benchmarks.md.

    python benchmarks/instances.py --data DIR [--methods mask-rcnn] [--sets synthetic,magnetic_tile] [--set KEY=VALUE]

`magnetic_tile` takes DIR/magnetic_tile with splits/magnetic_tile_supervised_by_tile.csv; each 8-connected region of
a mask is a defect. `synthetic` makes defects of known area and length on brushed metal, one an image: 60 of each kind
to learn from, 15 to validate and 25 to test, of other random numbers. Errors are of the region that shares most pixels
with the synthetic defect, in defects of more than 100 px; a defect that no region touches is counted as not found.
Times are of this machine, and mean little on another.
"""

import argparse
import csv
import json
import tempfile
from dataclasses import replace
from pathlib import Path

import numpy as np
from runs import Row, cases, cost_columns, interval, options_text, parse_options, parser, show, train_once

from blemish import Inspection, Inspector, Region, Sample, evaluate, read_dataset
from blemish.dataset.ground_truth import read_defect_mask
from blemish.dataset.write import write_csv
from blemish.synthesis.synthetic_set import SetSize, write_synthetic

SETS = ("synthetic", "magnetic_tile")
MIN_AREA = 100  # px; smaller defects are not measured
COLUMNS = (
    "method", "set", "seed", "instance AP50", "IoU", "defects found", "measured", "area error", "length error",
    "fit, s", "ms an image", "MB",
)  # fmt: skip


def make_synthetic(folder: Path) -> Path:
    """A manifest of synthetic defects, each split from its own seed, with a file of the true sizes."""
    samples, sizes = [], {}
    for seed, (split, defects) in enumerate({"train": 60, "val": 15, "test": 25}.items()):
        made = write_synthetic(folder / split, counts=SetSize(0, defects, defects), seed=seed)
        samples += [replace(sample, split=split) for sample in made.samples]
        with (folder / split / "ground_ground_truth.csv").open() as stream:
            sizes |= {str(folder / split / row["image"]): row for row in csv.DictReader(stream)}
    write_csv(made.with_samples(samples), folder / "data.csv")
    (folder / "sizes.json").write_text(json.dumps(sizes))
    return folder / "data.csv"


class MeasurementErrors:
    """Collects the relative errors of measurements on synthetic defects, as a callback of `evaluate`."""

    def __init__(self, sizes: Path) -> None:
        self.sizes = json.loads(sizes.read_text())
        self.defects = 0
        self.area: list[float] = []
        self.length: list[float] = []

    def __call__(self, sample: Sample, found: Inspection) -> None:
        true = self.sizes.get(str(sample.image))
        if true is None or float(true["area_px"]) <= MIN_AREA:
            return
        self.defects += 1
        mask = read_defect_mask(sample, found.size)
        shared = [pixels_shared(mask, region) for region in found.regions]
        if not any(shared):
            return
        measured = found.regions[int(np.argmax(shared))].measurements
        assert measured is not None
        self.area.append(abs(measured.area_px / float(true["area_px"]) - 1))
        self.length.append(abs(measured.length_px / float(true["length_px"]) - 1))


def pixels_shared(mask: np.ndarray, region: Region) -> int:
    x0, y0, x1, y1 = region.box
    own = mask[y0:y1, x0:x1]
    return int(own.sum() if region.mask is None else (own & region.mask).sum())


def measure(method: str, name: str, seed: int, given: argparse.Namespace) -> Row:
    """Train, ship and evaluate once."""
    options = parse_options(given)
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        if name == "synthetic":
            path, root = make_synthetic(folder / "data"), None
        else:
            path, root = given.data / "splits" / f"{name}_supervised_by_tile.csv", str(given.data / name)
        errors = MeasurementErrors(folder / "data" / "sizes.json") if name == "synthetic" else None
        run = train_once(path, method, name, seed, folder, given.keep, root=root, options=options)
        test = read_dataset(path, root=root).split("test")
        result = evaluate(Inspector.open(run.folder), test, on_inspection=errors).to_dict()
    masks = result["masks"]
    row = {
        "method": method,
        "options": options_text(options),
        "set": name,
        "seed": seed,
        "instance AP50": round(masks["instance_ap50"], 3),
        "IoU": round(masks["iou"], 3),
        "defects found": interval(masks["defects_found"]),
        "measured": "",
        "area error": "",
        "length error": "",
        **cost_columns(run, result),
    }
    if errors is not None and errors.area:
        row |= {
            "measured": f"{len(errors.area)} of {errors.defects}",
            "area error": round(float(np.median(errors.area)), 3),
            "length error": round(float(np.median(errors.length)), 3),
        }
    return row


def main() -> None:
    given = parser(__doc__, ("mask-rcnn",), SETS).parse_args()
    show(COLUMNS, (measure(*case, given) for case in cases(given)), given.json)


if __name__ == "__main__":
    main()
