"""Masks of whole defects, and what is measured on them, against known truth: a table of docs/benchmarks.md.

    python benchmarks/instances.py --data DIR [--methods mask-rcnn] [--sets synthetic,magnetic_tile] [--set KEY=VALUE]

`magnetic_tile` takes DIR/magnetic_tile with splits/magnetic_tile_supervised.csv; each 8-connected region of a mask is a
defect. `synthetic` draws defects of known area and length on brushed metal, one an image: 60 of each kind to learn
from, 15 to validate and 25 to test, of other random numbers. Errors there are of the region that shares most pixels
with the drawn defect, in defects of more than 100 px; a defect that no region touches is counted as not found. Times
are of this machine, and mean little on another.
"""

import argparse
import csv
import json
import tempfile
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from rich.console import Console
from rich.table import Table

from blemish import Inspection, Inspector, Region, Sample, evaluate, read_dataset, train
from blemish.dataset.synthetic import Counts, write_synthetic
from blemish.dataset.truth import mask_of
from blemish.dataset.write import write_csv
from blemish.training.options import parse_settings

SETS = ("synthetic", "magnetic_tile")
LEAST_AREA = 100  # px; smaller defects are not measured
COLUMNS = (
    "method", "set", "seed", "instance AP50", "IoU", "defects found", "measured", "area error", "length error",
    "fit, s", "ms an image", "MB",
)  # fmt: skip


def draw(folder: Path) -> Path:
    """A manifest of drawn defects, each part of it from a seed of its own, with the true sizes beside it."""
    samples, sizes = [], {}
    for seed, (split, defects) in enumerate({"train": 60, "val": 15, "test": 25}.items()):
        drawn = write_synthetic(folder / split, counts=Counts(0, defects, defects), seed=seed)
        samples += [replace(sample, split=split) for sample in drawn.samples]
        with (folder / split / "truth.csv").open() as stream:
            sizes |= {str(folder / split / row["image"]): row for row in csv.DictReader(stream)}
    write_csv(drawn.with_samples(samples), folder / "data.csv")
    (folder / "sizes.json").write_text(json.dumps(sizes))
    return folder / "data.csv"


class Ruler:
    """Watches inspections of drawn defects, and keeps the relative errors of what is measured on them."""

    def __init__(self, sizes: Path) -> None:
        self.truth = json.loads(sizes.read_text())
        self.defects = 0
        self.area: list[float] = []
        self.length: list[float] = []

    def __call__(self, sample: Sample, found: Inspection) -> None:
        true = self.truth.get(str(sample.image))
        if true is None or float(true["area_px"]) <= LEAST_AREA:
            return
        self.defects += 1
        mask = mask_of(sample, found.size)
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


def measure(
    method: str, name: str, seed: int, data: Path | None, options: dict[str, object], keep: Path | None
) -> dict[str, object]:
    """Train, ship and evaluate once."""
    marks: list[tuple[str, float, float]] = []
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        if name == "synthetic":
            path, root = draw(folder / "data"), None
        else:
            assert data is not None, "magnetic_tile needs --data"
            path, root = data / "splits" / "magnetic_tile_supervised.csv", str(data / "magnetic_tile")
        ruler = Ruler(folder / "data" / "sizes.json") if name == "synthetic" else None
        start, start_cpu = time.perf_counter(), time.process_time()
        run = train(
            path,
            root=root,
            out=keep / f"{method}-{name}-{seed}" if keep else folder / "run",
            method=method,
            options=options,
            seed=seed,
            progress=False,
            tell=lambda message: marks.append((message, time.perf_counter() - start, time.process_time() - start_cpu)),
        )
        _, fit, fit_cpu = next(mark for mark in marks if mark[0].startswith("exporting"))
        result = evaluate(Inspector.open(run), read_dataset(path, root=root).split("test"), watch=ruler).to_dict()
    masks = result["masks"]
    found = masks["defects_found"]
    row = {
        "method": method,
        "options": " ".join(f"{key}={value}" for key, value in options.items()),
        "set": name,
        "seed": seed,
        "instance AP50": round(masks["instance_ap50"], 3),
        "IoU": round(masks["iou"], 3),
        "defects found": f"{found['value']:.3f} ({found['low']:.3f}–{found['high']:.3f})",
        "measured": "",
        "area error": "",
        "length error": "",
        "fit, s": round(fit, 1),
        "fit, CPU s": round(fit_cpu, 1),
        "threads": torch.get_num_threads(),
        "device": torch.cuda.get_device_name() if torch.cuda.is_available() else "",
        "ms an image": round(result["speed"]["latency_ms"]["median"], 1),
        "MB": round(result["bundle"]["size_mb"], 1),
    }
    if ruler is not None and ruler.area:
        row |= {
            "measured": f"{len(ruler.area)} of {ruler.defects}",
            "area error": round(float(np.median(ruler.area)), 3),
            "length error": round(float(np.median(ruler.length)), 3),
        }
    return row


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, help="needed for magnetic_tile")
    parser.add_argument("--methods", default="mask-rcnn", help="or any that gives masks, such as unet")
    parser.add_argument("--sets", default=",".join(SETS))
    parser.add_argument("--seeds", default="0")
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", help="option of the methods")
    parser.add_argument("--keep", type=Path, metavar="DIR", help="leave the runs there, METHOD-SET-SEED each")
    parser.add_argument("--json", type=Path, help="append each row to this file as it comes")
    arguments = parser.parse_args()
    table = Table(*COLUMNS)
    for method in arguments.methods.split(","):
        for name in arguments.sets.split(","):
            for seed in map(int, arguments.seeds.split(",")):
                row = measure(method, name, seed, arguments.data, parse_settings(arguments.set), arguments.keep)
                table.add_row(*(str(row[column]) for column in COLUMNS))
                if arguments.json is not None:
                    with arguments.json.open("a") as stream:
                        stream.write(json.dumps(row, ensure_ascii=False) + "\n")
    Console(width=170).print(table)


if __name__ == "__main__":
    main()
