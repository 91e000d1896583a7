"""Where and how much: regions and measurements against known geometry, refined beside coarse.

    python benchmarks/geometry.py --data DIR [--drawn DIR]
        [--sets metal,fabric,gravel,pill,plate,bottle,wood,magnetic_tile]

The good-only default (patchcore) is trained once a set and its bundle evaluated twice: as it ships, and with its
refinement of regions taken out ("coarse"). `metal`, `fabric` and `gravel` are synthetic sets of exact shapes (`blemish
synth --seed 1`), which neither the refinement nor the uncertainties were taught on; they are written to --drawn. DIR
holds mvtec_ad/pill, mpdd_metal_plate, mvtec_ad/bottle, wood_anomaly and magnetic_tile with
splits/magnetic_tile_anomaly_by_tile.csv.
Ratios are medians of measured / true over the defects found; "within u" is the share of true values within measured ± u
over those whose uncertainty is known; "known" is the share of measured widths shown with it, and not as "≈".
"""

import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
from runs import Row, append, parse_options, parser, train_once

from blemish import Inspector, evaluate, read_dataset
from blemish.evaluation.evaluate import EvaluatedImage
from blemish.evaluation.geometry_metrics import (
    QUANTITIES,
    ImageGeometry,
    MeasuredDefect,
    geometry_metrics,
    measurement_error,
)
from blemish.inspection.bundle import open_bundle, write_bundle
from blemish.inspection.manifest import Scale
from blemish.inspection.uncertainty import is_reliable
from blemish.synthesis.synthetic_set import PX_PER_MM, write_synthetic

DRAWN = ("metal", "fabric", "gravel")
SETS = (*DRAWN, "pill", "plate", "bottle", "wood", "magnetic_tile")


def source(name: str, data: Path, drawn: Path) -> tuple[str, str | None]:
    """Path and root of a data set; a synthetic one is written where it is not there yet."""
    if name in DRAWN:
        if not (drawn / name).exists():
            write_synthetic(drawn / name, (name,), seed=1)
        return str(drawn / name), None
    if name == "magnetic_tile":
        return str(data / "splits" / "magnetic_tile_anomaly_by_tile.csv"), str(data / "magnetic_tile")
    return str(data / {"wood": "wood_anomaly", "plate": "mpdd_metal_plate"}.get(name, f"mvtec_ad/{name}")), None


def take_out_refinement(bundle: Path, out: Path) -> Path:
    """The same bundle with coarse regions, whose uncertainty is not known."""
    own = open_bundle(bundle)
    refinement = own.manifest.refinement
    members = {} if refinement is None else {refinement.graph, refinement.memory}
    manifest = own.manifest.model_copy(update={"refinement": None, "measurement_uncertainty": None})
    return write_bundle(out, own.graph, manifest, {k: v for k, v in own.extras.items() if k not in members})


def rows_of(method: str, name: str, regions: str, images: Sequence[EvaluatedImage], shipped: str) -> Iterator[Row]:
    """A row over all defects, and one for each kind of them."""
    kept = [image.geometry for image in images if image.geometry is not None]
    kinds = sorted({defect.label for image in kept for defect in image.defects})
    for kind in ["all", *kinds] if len(kinds) > 1 else ["all"]:
        own = [ImageGeometry(d, i.iou) for i in kept if (d := [x for x in i.defects if kind in ("all", x.label)])]
        metrics = geometry_metrics(own)
        assert metrics is not None
        defects = [defect for image in own for defect in image.defects]
        row: Row = {
            "method": method, "set": name, "options": kind, "settings": regions, "seed": 0, "refinement": shipped,
            "defects": metrics.defects, "found": metrics.found, "image IoU": round(metrics.image_iou, 3),
            "IoU, all": round(metrics.defect_iou, 3),
            "IoU, found": "" if metrics.defect_iou_found is None else round(metrics.defect_iou_found, 3),
        }  # fmt: skip
        for quantity, word in zip(QUANTITIES, ("length", "width", "area"), strict=True):
            error = measurement_error(defects, quantity)
            row[f"{word} ratio"] = "" if error is None else round(error.bias + 1, 2)
            row[f"{word} error"] = "" if error is None else round(error.error, 3)
            row[f"{word} within u"] = "" if error is None or error.covered is None else round(error.covered.value, 2)
        row["known"] = round(known_share(defects), 2)
        yield row


def known_share(defects: Sequence[MeasuredDefect]) -> float:
    found = [d for d in defects if d.measured is not None]
    reliable = [is_reliable(d.measured.mean_width, d.uncertainty.get("mean_width")) for d in found if d.measured]
    return float(np.mean(reliable)) if reliable else 0.0


def main() -> None:
    arguments = parser(__doc__, ("patchcore",), SETS)
    arguments.add_argument("--drawn", type=Path, help="folder for the synthetic sets", default=None)
    given = arguments.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        for method in given.methods.split(","):
            for name in given.sets.split(","):
                path, root = source(name, given.data, given.drawn or folder)
                scale = Scale(x=PX_PER_MM, y=PX_PER_MM) if name in DRAWN else None
                run = train_once(
                    path, method, name, 0, folder / f"{method}-{name}", given.keep, root=root, scale=scale,
                    options=parse_options(given),
                )  # fmt: skip
                bundle = next(run.folder.glob("*.blemish"))
                refinement = open_bundle(bundle).manifest.refinement
                shipped = "on" if refinement is not None and refinement.shipped else "off"
                test = read_dataset(run.folder / "split.csv", "csv").split("test")
                coarse = take_out_refinement(bundle, folder / f"{method}-{name}-coarse.blemish")
                for regions, one in (("coarse", coarse), ("as shipped", bundle)):
                    images: list[EvaluatedImage] = []
                    evaluate(Inspector.open(one, threads=1), test, speed=False, on_evaluated=images.append)
                    for row in rows_of(method, name, regions, images, shipped):
                        print(row, flush=True)
                        append(given.json, row)


if __name__ == "__main__":
    main()
