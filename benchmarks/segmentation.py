"""Methods that learn masks, on the magnetic tiles: the table of docs/benchmarks.md.

    python benchmarks/segmentation.py --data DIR [--methods unet,fcn,segan,multitask] [--seeds 0,1,2] [--set KEY=VALUE]

DIR holds magnetic_tile and splits/magnetic_tile_supervised.csv: 60/20/20 in every class, six classes. Tiles were taken
under several exposures and their names do not tell which are the same tile, so a little leakage between the splits
cannot be excluded. The four "uneven" images with an empty mask count for the image figures alone. `IoU` takes all
defects together; `mIoU` is the mean of the five defect classes, and `with good` of those and the good one. Escape and
overkill are of the whole decision, the images sent to review counted as found. Times are of this machine, and mean
little on another.
"""

import argparse
import json
import tempfile
import time
from pathlib import Path

import torch
from rich.console import Console
from rich.table import Table

from blemish import Inspector, evaluate, read_dataset, train
from blemish.training.fit import load_method
from blemish.training.options import parse_settings

COLUMNS = (
    "method", "seed", "IoU", "mIoU", "with good", "defects found", "image AUROC", "escape", "overkill", "accuracy",
    "parameters, M", "fit, s", "ms an image", "MB",
)  # fmt: skip


def measure(method: str, seed: int, data: Path, options: dict[str, object], keep: Path | None) -> dict[str, object]:
    """Train, ship and evaluate once."""
    marks: list[tuple[str, float, float]] = []
    path, root = data / "splits" / "magnetic_tile_supervised.csv", data / "magnetic_tile"
    with tempfile.TemporaryDirectory() as temporary:
        start, start_cpu = time.perf_counter(), time.process_time()
        run = train(
            path,
            root=str(root),
            out=keep / f"{method}-{seed}" if keep else Path(temporary) / "run",
            method=method,
            options=options,
            seed=seed,
            progress=False,
            tell=lambda message: marks.append((message, time.perf_counter() - start, time.process_time() - start_cpu)),
        )
        _, fit, fit_cpu = next(mark for mark in marks if mark[0].startswith("exporting"))
        weights = sum(parameter.numel() for parameter in load_method(run).parameters())
        result = evaluate(Inspector.open(run), read_dataset(path, root=str(root)).split("test")).to_dict()
    masks, image = result["masks"], result["image"]
    return {
        "method": method,
        "options": options,
        "set": "magnetic_tile",
        "seed": seed,
        "IoU": round(masks["iou"], 3),
        "mIoU": round(masks["miou"], 3),
        "with good": round(masks["miou_with_good"], 3),
        "per class": {name: round(figures["iou"], 3) for name, figures in masks["per_class"].items()},
        "defects found": interval(masks["defects_found"]),
        "image AUROC": interval(image["auroc"]),
        "escape": interval(image["escape_rate"]),
        "overkill": interval(image["overkill_rate"]),
        "accuracy": interval(result["classes"]["accuracy"]) if "classes" in result else "",
        "parameters, M": round(weights / 1e6, 2),
        "fit, s": round(fit, 1),
        "fit, CPU s": round(fit_cpu, 1),
        "threads": torch.get_num_threads(),
        "device": torch.cuda.get_device_name() if torch.cuda.is_available() else "",
        "ms an image": round(result["speed"]["latency_ms"]["median"], 1),
        "MB": round(result["bundle"]["size_mb"], 1),
    }


def interval(estimate: dict[str, float]) -> str:
    """A value with its 95 % interval."""
    return f"{estimate['value']:.3f} ({estimate['low']:.3f}–{estimate['high']:.3f})"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--methods", default="unet,fcn,segan,multitask")
    parser.add_argument("--seeds", default="0")
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", help="option of the methods")
    parser.add_argument("--keep", type=Path, metavar="DIR", help="leave the runs there, METHOD-SET-SEED each")
    parser.add_argument("--json", type=Path, help="append each row to this file as it comes")
    arguments = parser.parse_args()
    table = Table(*COLUMNS)
    for method in arguments.methods.split(","):
        for seed in map(int, arguments.seeds.split(",")):
            row = measure(method, seed, arguments.data, parse_settings(arguments.set), arguments.keep)
            table.add_row(*(str(row[column]) for column in COLUMNS))
            if arguments.json is not None:
                with arguments.json.open("a") as stream:
                    stream.write(json.dumps(row, ensure_ascii=False) + "\n")
    Console(width=180).print(table)


if __name__ == "__main__":
    main()
