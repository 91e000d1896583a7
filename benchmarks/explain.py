"""Explanations of a classifier against masks that it was not trained on: magnetic tiles, supervised split by tile.

    python benchmarks/explain.py --data DIR [--run RUN] [--methods "cam;grad-cam;…"] [--images N] [--seed N] [--json F]

Explained is the true class of each defective test image with a mask. Pointing game (Zhang et al. 2018): share of images
whose map has its peak in the mask, or within 15 px of it. IoU: of what exceeds a share of the peak with the mask; the
share is the best of 0.1, 0.2, … 0.9 on the validation images, for each method. `random` points anywhere, `cam, own
stride` is the map that ships by default, and `patch-transfer, labels` knows of no mask; patch-transfer itself does.
"""

import argparse
import csv
import shutil
import tempfile
import time
from pathlib import Path

import cv2
import numpy as np
from runs import show

from blemish import read_dataset
from blemish.dataset.ground_truth import has_mask, read_defect_mask
from blemish.training.explain import METHODS, Explainer
from blemish.training.train import load_method, train

SHARES = np.arange(1, 10) / 10
NEAR = 15  # px
SLOW = ("score-cam", "ablation-cam")
OWN_STRIDE, FROM_LABELS = "cam, own stride", "patch-transfer, labels"
ANNOTATIONS = ("mask", "mask_classes", "boxes", "shapes")
SLOW_IMAGES = 12
COLUMNS = ("method", "images", "pointing game", "within 15 px", "IoU", "share of peak", "ms an image")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, required=True, help="folder that holds magnetic_tile and splits")
    parser.add_argument("--run", type=Path, help="a trained classifier of these images; without it one is trained")
    parser.add_argument("--methods", default=";".join((*METHODS, OWN_STRIDE, FROM_LABELS)))
    parser.add_argument("--images", type=int, default=0, help="of each split; 0: all")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--json", type=Path, help="append each row to this file as it comes")
    arguments = parser.parse_args()
    split, root = arguments.data / "splits" / "magnetic_tile_supervised_by_tile.csv", arguments.data / "magnetic_tile"
    dataset = read_dataset(split, root=root)
    with tempfile.TemporaryDirectory() as folder:
        run = arguments.run or train(
            split, out=Path(folder) / "run", method="classifier", root=str(root), seed=arguments.seed
        )
        rows: list[dict[str, object]] = []
        for method in arguments.methods.split(";"):
            explainer = open_explainer(Path(run), method, Path(folder))
            limit = min(arguments.images or SLOW_IMAGES, SLOW_IMAGES) if method in SLOW else arguments.images
            held, _ = measure(explainer, dataset.split("val"), limit)
            begin = time.perf_counter()
            found, chance = measure(explainer, dataset.split("test"), limit)
            ms = 1000 * (time.perf_counter() - begin) / len(found)
            best = int(held[:, 2:].mean(axis=0).argmax())
            hit, near, iou = (round(float(found[:, column].mean()), 3) for column in (0, 1, 2 + best))
            values = (method, len(found), hit, near, iou, round(float(SHARES[best]), 1), round(ms))
            rows.append(dict(zip(COLUMNS, values, strict=True)))
        at_random = ("random", "", round(float(chance[0]), 3), round(float(chance[1]), 3), "", "", "")
        rows.append(dict(zip(COLUMNS, at_random, strict=True)))
    origin = {"set": "magnetic_tile", "split": "by tile", "seed": arguments.seed}
    show(COLUMNS, ({**row, **origin} for row in rows), arguments.json, width=110)


def open_explainer(run: Path, method: str, folder: Path) -> Explainer:
    """The explainer of a run; for `patch-transfer, labels` that of a copy that lists no masks."""
    if method == OWN_STRIDE:
        explainer = Explainer(run, "cam")
        explainer.network = load_method(run).cpu().eval()
        return explainer
    if method == FROM_LABELS:
        run = Path(shutil.copytree(run, folder / "labels"))
        with (run / "split.csv").open(encoding="utf-8", newline="") as stream:
            rows = list(csv.DictReader(stream))
        with (run / "split.csv").open("w", encoding="utf-8", newline="") as stream:
            writer = csv.DictWriter(stream, rows[0].keys())
            writer.writeheader()
            writer.writerows({**row, **{key: "" for key in ANNOTATIONS if key in row}} for row in rows)
        method = "patch-transfer"
    return Explainer(run, method)


def measure(explainer: Explainer, dataset, limit: int) -> tuple[np.ndarray, np.ndarray]:
    """One row for each image: hit, near hit, IoU at each share; and the expected hits and near hits at random."""
    samples = [s for s in dataset.samples if s.defective and has_mask(s)]
    if limit:
        samples = [samples[i] for i in np.linspace(0, len(samples) - 1, min(limit, len(samples))).astype(int)]
    rows, chances = [], []
    for sample in samples:
        heat = explainer.explain(sample, sample.label)[0].heat_map
        mask = read_defect_mask(sample, heat.shape)
        if not mask.any():
            continue
        near = cv2.distanceTransform((~mask).astype(np.uint8), cv2.DIST_L2, 5) <= NEAR
        peak = np.unravel_index(heat.argmax(), heat.shape)
        level = (heat - heat.min()) / max(float(np.ptp(heat)), 1e-12)
        overlaps = [((level >= s) & mask).sum() / ((level >= s) | mask).sum() for s in SHARES]
        rows.append([mask[peak], near[peak], *overlaps])
        chances.append([mask.mean(), near.mean()])
    return np.array(rows, float), np.array(chances).mean(axis=0)


if __name__ == "__main__":
    main()
