"""Comparison with a template on DeepPCB: recall of annotated defects and precision of regions.

    python benchmarks/template.py --data DIR [--steps N] [--image-size PX] [--tile PX] [--json ROWS.jsonl]

Every DeepPCB image has defects, so there is no metric for whole images. An annotated box is found when a region's
centre is inside it or its own centre inside a region's box; a region is right when it is matched so. The
split is the fixed one.
"""

import argparse
import json
import tempfile
import time
from pathlib import Path

import torch
from rich.console import Console
from runs import append

from blemish import Inspector, read_dataset
from blemish.dataset.ground_truth import defect_boxes
from blemish.training.train import train


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, required=True, help="folder that holds deeppcb and splits")
    parser.add_argument("--steps", type=int, default=300)
    parser.add_argument("--image-size", type=int, default=320)
    parser.add_argument("--tile", type=int, default=320)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--images", type=int, default=0, help="test images evaluated; 0: all")
    parser.add_argument("--json", type=Path, help="append each row to this file as it comes")
    arguments = parser.parse_args()
    split, root = arguments.data / "splits" / "deeppcb.csv", arguments.data / "deeppcb"
    with tempfile.TemporaryDirectory() as folder:
        begin = time.perf_counter()
        run = train(
            split,
            out=Path(folder) / "run",
            method="siamese",
            root=str(root),
            seed=arguments.seed,
            channels=1,
            tiling={"height": arguments.tile, "width": arguments.tile},
            options={"image_size": arguments.image_size, "steps": arguments.steps, "blur": 2.0, "tolerance": 1},
        )
        fit_s = time.perf_counter() - begin
        detected = match(Inspector.open(run), read_dataset(split, root=root).split("test"), arguments.images)
    row = {
        "method": "siamese",
        "options": f"image_size={arguments.image_size} steps={arguments.steps} tile={arguments.tile}",
        "set": "deeppcb",
        "seed": arguments.seed,
        **detected,
        "fit, s": round(fit_s, 1),
        "threads": torch.get_num_threads(),
    }
    Console().print(json.dumps(row, ensure_ascii=False))
    append(arguments.json, row)


def match(inspector: Inspector, test, images: int) -> dict[str, object]:
    """Recall of boxes, precision of regions, and time."""
    detected = boxed = right = regions = 0
    samples = test.samples[: images or None]
    begin = time.perf_counter()
    for sample, result in zip(samples, inspector.inspect(samples), strict=True):
        boxes = defect_boxes(sample, result.size)
        hit, matched = set(), set()
        for r, region in enumerate(result.regions):
            x0, y0, x1, y1 = region.box
            x, y = (x0 + x1) / 2, (y0 + y1) / 2
            for b, box in enumerate(boxes):
                bx, by = (box.x0 + box.x1) / 2, (box.y0 + box.y1) / 2
                if (box.x0 <= x <= box.x1 and box.y0 <= y <= box.y1) or (x0 <= bx <= x1 and y0 <= by <= y1):
                    hit.add(b)
                    matched.add(r)
        boxed, detected = boxed + len(boxes), detected + len(hit)
        regions, right = regions + len(result.regions), right + len(matched)
    ms = 1000 * (time.perf_counter() - begin) / len(samples)
    return {
        "images": len(samples),
        "boxes": boxed,
        "boxes found": round(detected / max(boxed, 1), 3),
        "regions": regions,
        "regions right": round(right / max(regions, 1), 3),
        "ms an image": round(ms, 1),
    }


if __name__ == "__main__":
    main()
