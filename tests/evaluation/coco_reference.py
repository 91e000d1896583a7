"""COCO's own code as the reference of average precision."""

import contextlib
import io

import numpy as np
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

NAMES = ("dent", "pit", "scratch")


def coco_average_precision(references, results, kind="bbox"):
    """COCO's (map, map50, map75) and average precision (T, K) with its own code."""
    with contextlib.redirect_stdout(io.StringIO()):
        reference = COCO()
        reference.dataset = {
            "images": [{"id": i, "height": 300, "width": 300} for i in range(1, len(references) + 1)],
            "categories": [{"id": k, "name": name} for k, name in enumerate(NAMES, 1)],
            "annotations": [
                {"id": n, "iscrowd": 0, **row} for n, row in enumerate((r for rows in references for r in rows), 1)
            ],
        }
        reference.createIndex()
        actual = reference.loadRes([row for rows in results for row in rows])
        judge = COCOeval(reference, actual, kind)
        judge.evaluate()
        judge.accumulate()
        judge.summarize()
    precision = judge.eval["precision"][:, :, :, 0, -1]  # T, R, K
    return judge.stats[:3], np.where((precision > -1).all(axis=1), precision.mean(axis=1), np.nan)
