"""Methods trained on boxes, on rolled steel and printed circuit boards: the table of docs/benchmarks.md.

    python benchmarks/detection.py --data DIR [--methods retinanet,yolo,...] [--sets neu_det,deeppcb] [--seeds 0,1,2]

DIR holds neu_det, deeppcb and splits/. NEU-DET is split 60/20/20 in every class, identical files on one side, so its
results are not comparable to the digit with those of other splits. DeepPCB is trained on 200 of the published 1,000
pairs, from the defective image alone, at 640 px, its own size. `found at 1` is the share of defects detected where one
false box an image is accepted. Times are of this machine, and mean little on another; `ms an image` is of the bundle
through the whole inspector.
"""

import argparse
import tempfile
from pathlib import Path

from runs import Row, cases, cost_columns, parse_options, parser, show, train_once

from blemish import Inspector, evaluate, read_dataset
from blemish.training.train import load_method

METHODS = ("faster-rcnn", "retinanet", "ssd", "yolo")
# What differs from the defaults, for every method alike: DeepPCB's defects are small, its images few and large.
SETS: dict[str, dict[str, object]] = {
    "neu_det": {"turn": False},  # rolled steel has a direction, and so have its defects
    "deeppcb": {"image_size": 640, "batch_size": 4, "turn": False},
}
COLUMNS = (
    "method", "set", "seed", "mAP50", "mAP", "mAP75", "found at 1", "parameters, M", "steps", "fit, s", "threads",
    "ms an image", "MB",
)  # fmt: skip


def measure(method: str, name: str, seed: int, given: argparse.Namespace) -> Row:
    """Train, ship and evaluate once."""
    path, root, options = given.data / "splits" / f"{name}.csv", str(given.data / name), parse_options(given)
    with tempfile.TemporaryDirectory() as temporary:
        both = {**SETS[name], **options}
        run = train_once(path, method, name, seed, Path(temporary), given.keep, root=root, options=both)
        network = load_method(run.folder)
        result = evaluate(Inspector.open(run.folder), read_dataset(path, root=root).split("test")).to_dict()
    boxes = result["boxes"]
    return {
        "method": method,
        "set": name,
        "seed": seed,
        "mAP50": round(boxes["map50"], 3),
        "mAP": round(boxes["map"], 3),
        "mAP75": round(boxes["map75"], 3),
        "found at 1": round(boxes["recall_at_1_fp_per_image"], 3),
        "per class": {label: round(metrics["map50"], 3) for label, metrics in boxes["per_class"].items()},
        "parameters, M": round(sum(parameter.numel() for parameter in network.parameters()) / 1e6, 2),
        "steps": getattr(network.options, "steps", ""),
        **cost_columns(run, result),
        "options": options,
    }


def main() -> None:
    given = parser(__doc__, METHODS, SETS).parse_args()
    show(COLUMNS, (measure(*case, given) for case in cases(given)), given.json, width=160)


if __name__ == "__main__":
    main()
