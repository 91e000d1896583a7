"""Methods that name the class of an image, on real images: the table of docs/benchmarks.md.

    python benchmarks/classification.py --data DIR [--methods classifier,cascade] [--sets neu,...] [--seeds 0,1,2]

DIR holds neu_det, magnetic_tile and splits/. `elpv` is read from the installed package elpv-dataset: all cells,
defective above a defect probability of 0.5, a quarter of them to test, by cell type and class (as Deitsch et al. 2019
did), and a sixth of the rest to validate. `cascade` and `multitask` go with magnetic_tile alone: the one takes good and
several kinds of defect, the other masks. Times are of this machine, and mean little on another.
"""

import argparse
import tempfile
from pathlib import Path

from runs import Row, cases, cost_columns, limits, parse_options, parser, show, train_once

from blemish import Inspector, evaluate, read_dataset
from blemish.dataset.ground_truth import has_mask
from blemish.dataset.sample import GOOD
from blemish.dataset.split import ensure_splits
from blemish.dataset.write import write_csv

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


def measure(method: str, name: str, seed: int, given: argparse.Namespace) -> Row:
    """Train, ship and evaluate once."""
    options = parse_options(given)
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        path, root = source(name, given.data, folder)
        run = train_once(path, method, name, seed, folder, given.keep, root=root, options=options)
        result = evaluate(Inspector.open(run.folder), read_dataset(path, root=root).split("test")).to_dict()
    classes, area = result["classes"], result["image"].get("auroc")
    return {
        "method": method,
        "set": name,
        "seed": seed,
        "accuracy": round(classes["accuracy"]["value"], 4),
        "95 %": limits(classes["accuracy"]),
        "balanced": round(classes["balanced_accuracy"], 4),
        "macro F1": round(classes["macro_f1"], 4),
        "AUROC": round(area["value"], 4) if area else "",
        "AUROC 95 %": limits(area) if area else "",
        "ECE": round(classes["ece"], 4),
        **cost_columns(run, result),
        "options": options,
        "confusion": {"classes": classes["classes"], "counts": classes["confusion"]},
    }


def main() -> None:
    given = parser(__doc__, METHODS, SETS).parse_args()
    wanted = (case for case in cases(given) if suits(case[0], case[1], given.data))
    show(COLUMNS, (measure(*case, given) for case in wanted), given.json)


def suits(method: str, name: str, data: Path) -> bool:
    """Whether a set suits the method: `cascade` needs good and several kinds of defect, `multitask` masks."""
    with tempfile.TemporaryDirectory() as folder:
        path, root = source(name, data, Path(folder))
        dataset = read_dataset(path, root=root)
    if method == "cascade":
        return GOOD in dataset.classes and len(dataset.classes) > 2
    return method != "multitask" or any(has_mask(sample) for sample in dataset.samples if sample.defective)


if __name__ == "__main__":
    main()
