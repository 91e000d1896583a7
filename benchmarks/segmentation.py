"""Methods trained on masks, on the magnetic tiles: the table of docs/benchmarks.md.

    python benchmarks/segmentation.py --data DIR [--methods unet,fcn,segan,multitask] [--seeds 0,1,2] [--set KEY=VALUE]

DIR holds magnetic_tile and splits/magnetic_tile_supervised.csv: 60/20/20 in every class, six classes. Images are split,
not tiles: by the rule of tiles.py 75 of the 77 defective test images, and 182 of the 190 good ones, have a sibling in
training, the same tile under another exposure, so that the metrics compare methods but are optimistic. The four
"uneven" images with an empty mask count only for the image metrics. `IoU` takes all defects together; `mIoU` is the
mean of the five defect classes, and `with good` of those and the good one. Escape and overkill are of the whole
decision, the images sent to review counted as detected. Times are of this machine, and mean little on another.
"""

import argparse
import tempfile
from pathlib import Path

from runs import Row, cases, cost_columns, escape_columns, interval, parse_options, parser, show, train_once

from blemish import Inspector, evaluate, read_dataset
from blemish.training.train import load_method

METHODS = ("unet", "fcn", "segan", "multitask")
SETS = ("magnetic_tile",)
COLUMNS = (
    "method", "seed", "IoU", "mIoU", "with good", "defects found", "image AUROC",
    "escape at 1 %", "escape at 5 %", "escape", "overkill", "accuracy",
    "parameters, M", "fit, s", "ms an image", "MB",
)  # fmt: skip


def measure(method: str, name: str, seed: int, given: argparse.Namespace) -> Row:
    """Train, ship and evaluate once."""
    path, root, options = given.data / "splits" / f"{name}_supervised.csv", str(given.data / name), parse_options(given)
    with tempfile.TemporaryDirectory() as temporary:
        run = train_once(path, method, name, seed, Path(temporary), given.keep, root=root, options=options)
        weights = sum(parameter.numel() for parameter in load_method(run.folder).parameters())
        result = evaluate(Inspector.open(run.folder), read_dataset(path, root=root).split("test")).to_dict()
    masks, image = result["masks"], result["image"]
    return {
        "method": method,
        "options": options,
        "set": name,
        "seed": seed,
        "IoU": round(masks["iou"], 3),
        "mIoU": round(masks["miou"], 3),
        "with good": round(masks["miou_with_good"], 3),
        "per class": {label: round(own["iou"], 3) for label, own in masks["per_class"].items()},
        "defects found": interval(masks["defects_found"]),
        "image AUROC": interval(image["auroc"]),
        **escape_columns(result),
        "escape": interval(image["escape_rate"]),
        "overkill": interval(image["overkill_rate"]),
        "accuracy": interval(result["classes"]["accuracy"]) if "classes" in result else "",
        "parameters, M": round(weights / 1e6, 2),
        **cost_columns(run, result),
    }


def main() -> None:
    given = parser(__doc__, METHODS, SETS).parse_args()
    show(COLUMNS, (measure(*case, given) for case in cases(given)), given.json, width=180)


if __name__ == "__main__":
    main()
