"""Methods that name the class of an image, on real images: the table of docs/benchmarks.md.

    python benchmarks/classification.py --data DIR [--methods classifier,cascade] [--sets neu,...] [--seeds 0,1,2]

DIR holds neu_det, magnetic_tile and splits/. `elpv` is read from the installed package elpv-dataset: all cells,
defective above a defect probability of 0.5, a quarter of them to test, by cell type and class (as Deitsch et al. 2019
did), and a sixth of the rest to validate. `cascade` and `multitask` go with magnetic_tile alone: the one takes good and
several kinds of defect, the other masks. Times are of this machine, and mean little on another.
"""

import argparse
import json
import tempfile
import time
from pathlib import Path
from typing import Any

import torch
from rich.console import Console
from rich.table import Table

from blemish import Inspector, evaluate, read_dataset, train
from blemish.dataset.sample import GOOD
from blemish.dataset.split import ensure_splits
from blemish.dataset.truth import has_mask
from blemish.dataset.write import write_csv
from blemish.training.options import parse_settings

SETS = ("neu", "magnetic_tile", "elpv")
METHODS = ("feature-classifier", "classifier", "cascade", "multitask")
COLUMNS = (
    "method", "set", "seed", "accuracy", "95 %", "balanced", "macro F1", "AUROC", "AUROC 95 %", "ECE", "fit, s",
    "ms an image", "MB",
)  # fmt: skip


def source(name: str, data: Path, folder: Path) -> tuple[str, str | None]:
    """Path and root of a data set."""
    if name == "elpv":
        cells = read_dataset("elpv", "elpv:0.5")
        parts = []
        for product in sorted({str(sample.product) for sample in cells.samples}):
            own = cells.where(lambda sample, product=product: sample.product == product)
            parts += ensure_splits(
                own, seed=0, val_share=0.125, test_share=0.25, need_defects_in_training=True
            ).samples  # fmt: skip
        write_csv(cells.with_samples(parts), folder / "elpv.csv")
        return str(folder / "elpv.csv"), None
    if name == "neu":
        return str(data / "splits" / "neu_det.csv"), str(data / "neu_det")
    return str(data / "splits" / "magnetic_tile_supervised.csv"), str(data / "magnetic_tile")


def measure(
    method: str, name: str, seed: int, data: Path, options: dict[str, Any], keep: Path | None
) -> dict[str, Any]:
    """Train, ship and evaluate once."""
    marks: list[tuple[str, float, float]] = []
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        path, root = source(name, data, folder)
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
        result = evaluate(Inspector.open(run), read_dataset(path, root=root).split("test")).to_dict()
    classes, area = result["classes"], result["image"].get("auroc")
    return {
        "method": method,
        "set": name,
        "seed": seed,
        "accuracy": round(classes["accuracy"]["value"], 4),
        "95 %": f"{classes['accuracy']['low']:.3f}–{classes['accuracy']['high']:.3f}",
        "balanced": round(classes["balanced_accuracy"], 4),
        "macro F1": round(classes["macro_f1"], 4),
        "AUROC": round(area["value"], 4) if area else "",
        "AUROC 95 %": f"{area['low']:.3f}–{area['high']:.3f}" if area else "",
        "ECE": round(classes["ece"], 4),
        "fit, s": round(fit, 1),
        "fit, CPU s": round(fit_cpu, 1),
        "threads": torch.get_num_threads(),
        "device": torch.cuda.get_device_name() if torch.cuda.is_available() else "",
        "ms an image": round(result["speed"]["latency_ms"]["median"], 1),
        "MB": round(result["bundle"]["size_mb"], 1),
        "options": options,
        "confusion": {"classes": classes["classes"], "counts": classes["confusion"]},
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--methods", default=",".join(METHODS))
    parser.add_argument("--sets", default=",".join(SETS))
    parser.add_argument("--seeds", default="0")
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", help="option of the methods")
    parser.add_argument("--keep", type=Path, metavar="DIR", help="leave the runs there, METHOD-SET-SEED each")
    parser.add_argument("--json", type=Path, help="append each row to this file as it comes")
    arguments = parser.parse_args()
    table = Table(*COLUMNS)
    for method in arguments.methods.split(","):
        for name in arguments.sets.split(","):
            if not suits(method, name, arguments.data):
                continue
            for seed in map(int, arguments.seeds.split(",")):
                row = measure(method, name, seed, arguments.data, parse_settings(arguments.set), arguments.keep)
                table.add_row(*(str(row[column]) for column in COLUMNS))
                if arguments.json is not None:
                    with arguments.json.open("a") as stream:
                        stream.write(json.dumps(row, ensure_ascii=False) + "\n")
    Console(width=170).print(table)


def suits(method: str, name: str, data: Path) -> bool:
    """For `cascade` good and several kinds of defect, for `multitask` masks."""
    with tempfile.TemporaryDirectory() as folder:
        path, root = source(name, data, Path(folder))
        dataset = read_dataset(path, root=root)
    if method == "cascade":
        return GOOD in dataset.classes and len(dataset.classes) > 2
    return method != "multitask" or any(has_mask(sample) for sample in dataset.samples if sample.defective)


if __name__ == "__main__":
    main()
