"""Methods that learn boxes, on rolled steel and printed circuit boards: the table of docs/benchmarks.md.

    python benchmarks/detection.py --data DIR [--methods retinanet,yolo,...] [--sets neu_det,deeppcb] [--seeds 0,1,2]

DIR holds neu_det, deeppcb and splits/. NEU-DET is split 60/20/20 in every class, identical files on one side, so its
figures are not to be compared to the digit with those of other splits. DeepPCB learns from 200 of the published 1,000
pairs, from the defective image alone, at 640 px, its own size. `found at 1` is the share of defects found where one
false box an image is accepted. Times are of this machine, and mean little on another; `ms an image` is of the bundle
through the whole inspector.
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

METHODS = "faster-rcnn,retinanet,ssd,yolo"
# What differs from the defaults, for every method alike: DeepPCB's defects are small, its images few and large.
SETS: dict[str, dict[str, object]] = {
    "neu_det": {},
    "deeppcb": {"image_size": 640, "batch_size": 4, "turn": False},
}
COLUMNS = (
    "method", "set", "seed", "mAP50", "mAP", "mAP75", "found at 1", "parameters, M", "steps", "fit, s", "device",
    "ms an image", "MB",
)  # fmt: skip


def measure(
    method: str, name: str, seed: int, data: Path, options: dict[str, object], keep: Path | None
) -> dict[str, object]:
    """Train, ship and evaluate once."""
    marks: list[tuple[str, float]] = []
    path, root = data / "splits" / f"{name}.csv", data / name
    with tempfile.TemporaryDirectory() as temporary:
        start = time.perf_counter()
        run = train(
            path,
            root=str(root),
            out=keep / f"{method}-{name}-{seed}" if keep else Path(temporary) / "run",
            method=method,
            options={**SETS[name], **options},
            seed=seed,
            progress=False,
            tell=lambda message: marks.append((message, time.perf_counter() - start)),
        )
        fit = next(seconds for message, seconds in marks if message.startswith("exporting"))
        network = load_method(run)
        result = evaluate(Inspector.open(run), read_dataset(path, root=str(root)).split("test")).to_dict()
    boxes = result["boxes"]
    return {
        "method": method,
        "set": name,
        "seed": seed,
        "mAP50": round(boxes["map50"], 3),
        "mAP": round(boxes["map"], 3),
        "mAP75": round(boxes["map75"], 3),
        "found at 1": round(boxes["recall_at_1_fp_per_image"], 3),
        "per class": {label: round(figures["map50"], 3) for label, figures in boxes["per_class"].items()},
        "parameters, M": round(sum(parameter.numel() for parameter in network.parameters()) / 1e6, 2),
        "steps": getattr(network.options, "steps", ""),
        "fit, s": round(fit, 1),
        "device": torch.cuda.get_device_name() if torch.cuda.is_available() else f"{torch.get_num_threads()} threads",
        "ms an image": round(result["speed"]["latency_ms"]["median"], 1),
        "MB": round(result["bundle"]["size_mb"], 1),
        "options": options,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--methods", default=METHODS)
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
    Console(width=160).print(table)


if __name__ == "__main__":
    main()
