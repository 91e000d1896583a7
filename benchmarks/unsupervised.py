"""Methods that learn from good images, on real images: the table of docs/benchmarks.md.

    python benchmarks/unsupervised.py --data DIR [--methods patchcore,padim] [--sets bottle,wood,...] [--seeds 0,1,2]

DIR holds mvtec_ad/bottle, wood_anomaly, magnetic_tile and splits/. `elpv` is read from the installed package
elpv-dataset: mono-crystalline cells, defect probability 0 as good and 1 as defective, one fifth of the good cells to
validate and one fifth to test. Times are of this machine, and mean little on another.
"""

import argparse
import json
import tempfile
import time
from dataclasses import replace
from pathlib import Path

import torch
from rich.console import Console
from rich.table import Table

from blemish import Inspector, evaluate, read_dataset, train
from blemish.dataset.split import ensure_splits
from blemish.dataset.write import write_csv
from blemish.training.options import parse_settings

SETS = ("bottle", "wood", "magnetic_tile", "elpv")
COLUMNS = (
    "method", "options", "set", "seed", "image AUROC", "95 %", "pixel AUROC", "AUPRO", "IoU", "fit, s", "fit, CPU s",
    "ms an image", "MB",
)  # fmt: skip


def source(name: str, data: Path, folder: Path, calibration: str = "held-out") -> tuple[str, str | None]:
    """Path and root of a data set; cross-fitted needs no validation images, so it learns from them too."""
    if name == "elpv":
        mono = ensure_splits(read_dataset("elpv").where(lambda sample: sample.product == "mono"), seed=0)
        if calibration == "cross-fitted":
            mono = mono.with_samples(replace(s, split="train") if s.split == "val" else s for s in mono.samples)
        write_csv(mono, folder / "elpv.csv")
        return str(folder / "elpv.csv"), None
    if name == "magnetic_tile":
        return str(data / "splits" / "magnetic_tile_anomaly.csv"), str(data / "magnetic_tile")
    return str(data / {"bottle": "mvtec_ad/bottle", "wood": "wood_anomaly"}[name]), None


def measure(
    method: str, name: str, seed: int, data: Path, options: dict[str, object], calibration: str, keep: Path | None
) -> dict[str, object]:
    """Train, ship and evaluate once."""
    marks: list[tuple[str, float, float]] = []
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        path, root = source(name, data, folder, calibration)
        start, start_cpu = time.perf_counter(), time.process_time()
        run = train(
            path,
            root=root,
            out=keep / f"{method}-{name}-{seed}" if keep else folder / "run",
            method=method,
            options=options,
            seed=seed,
            calibration=calibration,
            progress=False,
            tell=lambda message: marks.append((message, time.perf_counter() - start, time.process_time() - start_cpu)),
        )
        _, fit, fit_cpu = next(mark for mark in marks if mark[0].startswith("exporting"))
        result = evaluate(Inspector.open(run), read_dataset(path, root=root).split("test")).to_dict()
    area, pixel = result["image"]["auroc"], result.get("pixel", {})
    return {
        "method": method,
        "options": " ".join(f"{key}={value}" for key, value in options.items())
        + ("" if calibration == "held-out" else f" {calibration}"),
        "set": name,
        "seed": seed,
        "image AUROC": round(area["value"], 4),
        "95 %": f"{area['low']:.3f}–{area['high']:.3f}",
        "pixel AUROC": round(pixel["auroc"], 4) if pixel else "",
        "AUPRO": round(pixel["aupro"], 4) if pixel else "",
        "IoU": round(pixel["iou"], 3) if pixel else "",
        "fit, s": round(fit, 1),
        "fit, CPU s": round(fit_cpu, 1),
        "threads": torch.get_num_threads(),
        "device": torch.cuda.get_device_name() if torch.cuda.is_available() else "",
        "ms an image": round(result["speed"]["latency_ms"]["median"], 1),
        "MB": round(result["bundle"]["size_mb"], 1),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--methods", default="patchcore,padim")
    parser.add_argument("--sets", default=",".join(SETS))
    parser.add_argument("--seeds", default="0")
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", help="option of the methods")
    parser.add_argument("--calibration", default="held-out", help="cross-fitted learns from all good images")
    parser.add_argument("--keep", type=Path, metavar="DIR", help="leave the runs there, METHOD-SET-SEED each")
    parser.add_argument("--json", type=Path, help="append each row to this file as it comes")
    arguments = parser.parse_args()
    table = Table(*COLUMNS)
    for method in arguments.methods.split(","):
        for name in arguments.sets.split(","):
            for seed in map(int, arguments.seeds.split(",")):
                row = measure(
                    method,
                    name,
                    seed,
                    arguments.data,
                    parse_settings(arguments.set),
                    arguments.calibration,
                    arguments.keep,
                )
                table.add_row(*(str(row[column]) for column in COLUMNS))
                if arguments.json is not None:
                    with arguments.json.open("a") as stream:
                        stream.write(json.dumps(row, ensure_ascii=False) + "\n")
    Console(width=140).print(table)


if __name__ == "__main__":
    main()
