"""Methods trained on good images, on real images: the table of docs/benchmarks.md.

    python benchmarks/unsupervised.py --data DIR [--methods patchcore,padim] [--sets bottle,wood,...] [--seeds 0,1,2]

DIR holds mvtec_ad/bottle, wood_anomaly, magnetic_tile and splits/. `elpv` is read from the installed package
elpv-dataset: mono-crystalline cells, defect probability 0 as good and 1 as defective, one fifth of the good cells to
validate and one fifth to test. Times are of this machine, and mean little on another.
"""

import argparse
import tempfile
from dataclasses import replace
from pathlib import Path

from runs import Row, anomaly_columns, cases, cost_columns, options_text, parse_options, parser, show, train_once

from blemish import Inspector, evaluate, read_dataset
from blemish.dataset.split import ensure_splits
from blemish.dataset.write import write_csv

SETS = ("bottle", "wood", "magnetic_tile", "elpv")
COLUMNS = (
    "method", "options", "set", "seed", "image AUROC", "95 %", "escape at 1 %", "escape at 5 %", "pixel AUROC", "AUPRO",
    "IoU", "fit, s", "fit, CPU s", "ms an image", "MB",
)  # fmt: skip


def source(name: str, data: Path, folder: Path, calibration: str = "held-out") -> tuple[str, str | None]:
    """Path and root of a data set; cross-fitted needs no validation images, so it is trained on them too."""
    if name == "elpv":
        mono = ensure_splits(read_dataset("elpv").where(lambda sample: sample.product == "mono"), seed=0)
        if calibration == "cross-fitted":
            mono = mono.with_samples(replace(s, split="train") if s.split == "val" else s for s in mono.samples)
        write_csv(mono, folder / "elpv.csv")
        return str(folder / "elpv.csv"), None
    if name == "magnetic_tile":
        return str(data / "splits" / "magnetic_tile_anomaly.csv"), str(data / "magnetic_tile")
    return str(data / {"bottle": "mvtec_ad/bottle", "wood": "wood_anomaly"}[name]), None


def measure(method: str, name: str, seed: int, given: argparse.Namespace) -> Row:
    """Train, ship and evaluate once."""
    options, calibration = parse_options(given), given.calibration
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        path, root = source(name, given.data, folder, calibration)
        run = train_once(
            path, method, name, seed, folder, given.keep, root=root, options=options, calibration=calibration
        )  # fmt: skip
        result = evaluate(Inspector.open(run.folder), read_dataset(path, root=root).split("test")).to_dict()
    pixel = result.get("pixel", {})
    return {
        "method": method,
        "options": options_text(options) + ("" if calibration == "held-out" else f" {calibration}"),
        "set": name,
        "seed": seed,
        **anomaly_columns(result),
        "IoU": round(pixel["iou"], 3) if pixel else "",
        **cost_columns(run, result),
    }


def main() -> None:
    arguments = parser(__doc__, ("patchcore", "padim"), SETS)
    arguments.add_argument("--calibration", default="held-out", help="cross-fitted trains on all good images")
    given = arguments.parse_args()
    show(COLUMNS, (measure(*case, given) for case in cases(given)), given.json, width=140)


if __name__ == "__main__":
    main()
